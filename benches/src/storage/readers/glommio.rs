//! glommio: its direct files on one executor.

use std::rc::Rc;
use std::time::Instant;

use ::glommio::LocalExecutorBuilder;
use ::glommio::io::DmaFile;
use anyhow::{Result, anyhow};

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

pub(super) fn read(job: &Job, clock: Clock) -> Result<Tally> {
    let executor = LocalExecutorBuilder::default().make().map_err(|error| anyhow!("{error}"))?;
    executor.run(async move {
        let file = DmaFile::open(&job.file).await.map_err(|error| anyhow!("{error}"))?;
        let file = Rc::new(file);
        let readers: Vec<_> = (0..job.depth)
            .map(|task| {
                ::glommio::spawn_local(read_alone(Rc::clone(&file), job.choice(task), clock))
            })
            .collect();
        let mut all = Recorder::new(clock)?;
        for reader in readers {
            all.add(&reader.await?)?;
        }
        file.close_rc().await.map_err(|error| anyhow!("{error}"))?;
        Ok(all.finish())
    })
}

async fn read_alone(
    file: Rc<DmaFile>,
    mut choice: impl FnMut() -> u64,
    clock: Clock,
) -> Result<Recorder> {
    let mut recorder = Recorder::new(clock)?;
    loop {
        let (block, begun) = (choice(), Instant::now());
        let read = file.read_at_aligned(block * BLOCK as u64, BLOCK).await;
        verify(&read.map_err(|error| anyhow!("{error}"))?, block)?;
        if !recorder.record(begun, Instant::now()) {
            return Ok(recorder);
        }
    }
}
