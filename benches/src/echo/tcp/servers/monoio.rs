//! monoio: a task per connection.

use std::convert::Infallible;
use std::net::TcpListener;

use ::monoio::buf::IoBuf as _;
use ::monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use ::monoio::net::TcpStream;
use anyhow::Result;

use super::BUFFER;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let mut runtime =
        ::monoio::RuntimeBuilder::<::monoio::IoUringDriver>::new().with_entries(1024).build()?;
    runtime.block_on(async move {
        let listener = ::monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (connection, _) = listener.accept().await?;
            ::monoio::spawn(echo(connection));
        }
    })
}

async fn echo(mut connection: TcpStream) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (received, filled) = connection.read(buffer).await;
        let Ok(count @ 1..) = received else { break };
        let (sent, same) = connection.write_all(filled.slice(..count)).await;
        if sent.is_err() {
            break;
        }
        buffer = same.into_inner();
    }
}
