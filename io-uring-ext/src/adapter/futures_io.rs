//! The traits of futures-io.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use super::{Duplex, Reader, Writer};
use crate::mode::Mode;

/// For a type, or for a part of it, that reads.
macro_rules! reads {
    ($($type:ident $(. $half:ident)?),*) => {$(
        impl<M: Mode> AsyncRead for $type<M> {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                if buf.is_empty() {
                    return Poll::Ready(Ok(0));
                }
                self.get_mut()$(.$half)?.poll_copy(context, |there| {
                    let amount = there.len().min(buf.len());
                    buf[..amount].copy_from_slice(&there[..amount]);
                    amount
                })
            }
        }

        impl<M: Mode> AsyncBufRead for $type<M> {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                self.get_mut()$(.$half)?.poll_fill(context)
            }

            fn consume(self: Pin<&mut Self>, amount: usize) {
                self.get_mut()$(.$half)?.take(amount);
            }
        }
    )*};
}

/// For a type, or for a part of it, that writes.
macro_rules! writes {
    ($($type:ident $(. $half:ident)?),*) => {$(
        impl<M: Mode> AsyncWrite for $type<M> {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.poll_write_vectored(context, &[IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.get_mut()$(.$half)?.poll_put(context, slices)
            }

            fn poll_flush(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.get_mut()$(.$half)?.poll_written(context)
            }

            fn poll_close(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.get_mut()$(.$half)?.poll_end(context)
            }
        }
    )*};
}

reads!(Reader, Duplex.reader);
writes!(Writer, Duplex.writer);
