//! compio: a task per connection.

use std::convert::Infallible;
use std::net::TcpListener;

use ::compio::buf::{BufResult, IntoInner as _, IoBuf as _};
use ::compio::io::{AsyncRead as _, AsyncWriteExt as _};
use ::compio::net::TcpStream;
use anyhow::Result;

use super::BUFFER;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let runtime = ::compio::runtime::Runtime::new()?;
    runtime.block_on(async move {
        let listener = ::compio::net::TcpListener::from_std(listener)?;
        loop {
            let (connection, _) = listener.accept().await?;
            ::compio::runtime::spawn(echo(connection)).detach();
        }
    })
}

async fn echo(mut connection: TcpStream) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let BufResult(received, filled) = connection.read(buffer).await;
        let Ok(count @ 1..) = received else { break };
        let BufResult(sent, same) = connection.write_all(filled.slice(..count)).await;
        if sent.is_err() {
            break;
        }
        buffer = same.into_inner();
        buffer.clear();
    }
}
