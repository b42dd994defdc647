//! A connection whose peer has not said anything yet.
//!
//! Who connects to a door that closes may wait among those whom nobody will
//! accept: the kernel resets them. To the client that looks like a callee that
//! was lost with the call. But a callee says its settings before it reads
//! anything (RFC 9113, section 3.4), and our client opens no stream before it
//! has heard them, so what ends in silence was never begun.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that tells the end of a connection in silence, in whichever way it
/// came, as [`ErrorKind::NotConnected`]: layers above keep the kind alone.
#[derive(Debug)]
pub struct Unheard {
    socket: TcpStream,
    heard: bool,
}

/// Whether an error is that of a connection which ended in silence.
pub fn is_silence(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotConnected
}

fn silence() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the connection was closed before it was accepted")
}

impl Unheard {
    pub(crate) const fn new(socket: TcpStream) -> Self {
        Self { socket, heard: false }
    }

    fn told<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(Err(_)) if !self.heard => Poll::Ready(Err(silence())),
            outcome => outcome,
        }
    }
}

impl AsyncRead for Unheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && !self.heard {
            if buffer.filled().len() == before && buffer.remaining() > 0 {
                return Poll::Ready(Err(silence()));
            }
            self.heard = true;
        }
        self.told(read)
    }
}

impl AsyncWrite for Unheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.told(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.told(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.told(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Connection for Unheard {
    fn connected(&self) -> Connected {
        self.socket.connected()
    }
}
