//! A socket that is closed only after its peer is done with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a silent peer keeps a closed connection's socket.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A socket whose shutdown closes the writing half, then reads until the peer
/// closes its own, is silent for [`SILENCE_MAX`], or `linger` has passed.
///
/// A kernel answers `close` on a socket with unread bytes by a reset, and a
/// reset discards what was sent and not yet taken. An HTTP/2 client that reads
/// the end of a stream keeps sending window updates, so a door that closed at
/// once would cut the very streams it had waited for.
pub(crate) struct Lingering {
    socket: TcpStream,
    linger: Duration,
    closing: Option<Closing>,
}

struct Closing {
    ends: Instant,
    silent: Pin<Box<Sleep>>,
}

impl Lingering {
    pub(crate) fn new(socket: TcpStream, linger: Duration) -> Self {
        Self { socket, linger, closing: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closing = match &mut this.closing {
            Some(closing) => closing,
            closing @ None => {
                ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
                let now = Instant::now();
                let silent = Box::pin(tokio::time::sleep(SILENCE_MAX.min(this.linger)));
                closing.insert(Closing { ends: now + this.linger, silent })
            }
        };
        let mut scratch = [0; 4 << 10];
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.socket).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    let silent = Instant::now() + SILENCE_MAX;
                    closing.silent.as_mut().reset(silent.min(closing.ends));
                }
                // The peer has closed, in one way or the other.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(closing.silent.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
