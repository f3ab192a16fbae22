//! glommio: a task per connection.
//!
//! Relies on: the listener gives its number away and is forgotten, so the new owner is the only one.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};

use ::glommio::LocalExecutorBuilder;
use ::glommio::net::TcpStream;
use anyhow::{Result, anyhow};
use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::BUFFER;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let executor = LocalExecutorBuilder::default().make().map_err(|error| anyhow!("{error}"))?;
    executor.run(async move {
        let listener = listener.into_raw_fd();
        // SAFETY: a listening TCP socket that nobody else owns from here on.
        let listener = unsafe { ::glommio::net::TcpListener::from_raw_fd(listener) };
        loop {
            let connection = listener.accept().await.map_err(|error| anyhow!("{error}"))?;
            ::glommio::spawn_local(echo(connection)).detach();
        }
    })
}

async fn echo(mut connection: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
        if connection.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
