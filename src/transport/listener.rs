//! Bound addresses to accept connections from.

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// The number of connections that the kernel queues until they are accepted.
const BACKLOG: u32 = 4096;
/// The bytes of responses that the kernel keeps for a connection, which doubles them for its own
/// records. Left alone it keeps up to 4 MiB, which a client that never reads holds for 30 s.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// A bound listener.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 selects a free port.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG.cast_signed())?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The bound address, with its actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket that connections are accepted from.
    pub(super) fn socket(&self) -> &TcpListener {
        &self.listener
    }
}
