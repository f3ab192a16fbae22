//! tokio: one thread, a task per connection, readiness by epoll.

use std::convert::Infallible;
use std::net::TcpListener;

use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::net::TcpStream;
use anyhow::Result;

use super::BUFFER;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    listener.set_nonblocking(true)?;
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let listener = ::tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (connection, _) = listener.accept().await?;
            ::tokio::spawn(echo(connection));
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
