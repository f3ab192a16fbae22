use super::*;
use crate::Buffer as _;
use crate::backend::memory::{LinkOptions, MemoryFrame, MemoryPort, link};

/// A queue that has news once, as a link that goes down.
struct Down {
    port: MemoryPort,
    untold: bool,
}

impl PacketIo for Down {
    type Frame = MemoryFrame;

    fn recv(&mut self, out: &mut Burst<MemoryFrame>) -> Result<usize> {
        if std::mem::take(&mut self.untold) {
            return Err(Error::config("link", "down", "for a test"));
        }
        self.port.recv(out)
    }

    fn alloc(&mut self, out: &mut Burst<MemoryFrame>, n: usize) -> usize {
        self.port.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<MemoryFrame>) -> Result<usize> {
        self.port.send(frames)
    }
}

impl Endpoint for Down {
    fn flush(&mut self) -> Result<()> {
        self.port.flush()
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.port.wait(interest, timeout)
    }

    fn caps(&self) -> &Caps {
        self.port.caps()
    }

    fn stats(&self) -> Stats {
        self.port.stats()
    }
}

#[test]
fn an_error_behind_the_frames_of_another_queue_is_told_by_the_next_call() {
    let (a, others) = link(&LinkOptions::default()).unwrap();
    let (b, _others) = link(&LinkOptions::default()).unwrap();
    let queue =
        |end: crate::backend::memory::MemoryEnd, untold| Down { port: end.open().unwrap(), untold };
    let mut sender = others.open().unwrap();
    let mut port = Queues::new(vec![queue(a, false), queue(b, true)]).unwrap();
    let mut burst = Burst::with_capacity(8);
    sender.alloc(&mut burst, 1);
    burst.iter_mut().for_each(|frame| frame.fill(&[7; 60]).unwrap());
    assert_eq!(sender.send(&mut burst).unwrap(), 1);
    sender.flush().unwrap();

    assert_eq!(port.recv(&mut burst).unwrap(), 1);
    let ready = port.wait(Interest::RX, None).unwrap();
    assert_eq!(ready, Ready::RX, "there is something to hear");
    assert!(matches!(port.recv(&mut burst), Err(Error::Config { .. })));
    assert_eq!(port.recv(&mut burst).unwrap(), 0, "it was told");
}
