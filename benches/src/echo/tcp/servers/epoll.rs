//! epoll by hand: one call to wait, one to receive, one to send.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::BUFFER;
use crate::echo::calls;

const LISTENER: u64 = u64::MAX;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [MaybeUninit::<Event>::uninit(); 256];
    let mut buffer = [0; BUFFER];
    loop {
        let (ready, _) = epoll::wait(&epoll, &mut events, None)?;
        calls::count(1);
        for event in &*ready {
            let key = event.data.u64();
            if key == LISTENER {
                let (connection, _) = listener.accept()?;
                let key = connection.as_raw_fd() as u64;
                epoll::add(&epoll, &connection, EventData::new_u64(key), EventFlags::IN)?;
                connections.insert(key, connection);
            } else if let Some(connection) = connections.get_mut(&key) {
                calls::count(2);
                match echo(connection, &mut buffer) {
                    Ok(0) => drop(connections.remove(&key)),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                        connections.remove(&key);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

fn echo(connection: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    let count = connection.read(buffer)?;
    connection.write_all(&buffer[..count])?;
    Ok(count)
}
