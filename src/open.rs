//! [`Bind`]: opening a datagram endpoint alike on every backend.

use crate::backend::socket::UdpSocket;
use crate::{DatagramIo, Result, UdpOptions};

/// A datagram backend that can be opened with [`UdpOptions`]; an application that is generic over
/// it runs on whichever the features chose.
///
/// ```
/// use bypass_io::prelude::*;
/// use bypass_io::{Bind, DefaultSocket, UdpOptions};
///
/// fn serve<S: Bind>() -> bypass_io::Result<&'static str> {
///     let socket = S::bind(&UdpOptions::new(([127, 0, 0, 1], 0).into()))?;
///     Ok(socket.caps().backend)
/// }
///
/// println!("{}", serve::<DefaultSocket>()?);
/// # Ok::<(), bypass_io::Error>(())
/// ```
pub trait Bind: DatagramIo + Sized {
    /// Opens an endpoint.
    ///
    /// # Errors
    ///
    /// As the backend's own way of opening; settings that it cannot honour are refused, not
    /// ignored.
    fn bind(options: &UdpOptions) -> Result<Self>;
}

impl Bind for UdpSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        options.open()
    }
}

#[cfg(feature = "io-uring")]
impl Bind for crate::io_uring::UringSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        Self::open(options, &crate::io_uring::UringOptions::new())
    }
}
