//! Writes that share a transaction. A flush costs the same for one row as for
//! fifty: whoever gets the turn writes what has gathered meanwhile, and each is
//! told after the commit that holds its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use service_error::{Code, ServiceError};
use tokio::sync::{Mutex as Turn, oneshot};

/// Written at once; the rest takes the next turn.
const AT_ONCE: usize = 64;
/// Rounds of what is ready to run, sockets too, that the next turn lets pass before it begins:
/// who is about to ask comes along instead of waiting for the flush after.
const ROUNDS: usize = 3;
/// Those that wait; a caller beyond is told to come again.
const WAITING_MAX: usize = 4_096;

type Write<T, R> = dyn Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<R>, ServiceError>> + Send + Sync;

/// A queue of writes of one kind. Clones are the same one.
pub struct Together<T, R> {
    inner: Arc<Inner<T, R>>,
}

struct Inner<T, R> {
    waiting: Mutex<VecDeque<Waiting<T, R>>>,
    turn: Turn<()>,
    /// Whether two may be written at once.
    fit: fn(&T, &T) -> bool,
    write: Box<Write<T, R>>,
}

struct Waiting<T, R> {
    item: T,
    tell: oneshot::Sender<Result<R, ServiceError>>,
}

impl<T, R> Clone for Together<T, R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T, R> fmt::Debug for Together<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<T: Clone + Send + 'static, R: Send + 'static> Together<T, R> {
    /// `write` makes all of some items durable or none, and answers in their
    /// order; `fit` says which two it takes at once.
    pub fn new(
        fit: fn(&T, &T) -> bool,
        write: impl Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<R>, ServiceError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let waiting = Mutex::new(VecDeque::new());
        let inner = Inner { waiting, turn: Turn::new(()), fit, write: Box::new(write) };
        Self { inner: Arc::new(inner) }
    }

    /// Writes an item with others; it is durable when this answers.
    ///
    /// # Errors
    /// Its own: what fails for one of several is tried again for each alone.
    pub async fn write(&self, item: T) -> Result<R, ServiceError> {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.inner.waiting();
            if waiting.len() >= WAITING_MAX {
                let message = "too many writes wait: send it again in a moment";
                return Err(ServiceError::exhausted(message).reason("WRITES_WAIT"));
            }
            waiting.push_back(Waiting { item, tell });
            waiting.len() == 1
        };
        // Whoever comes later is written with the first, or after it.
        if is_first {
            self.take_turn();
        }
        told.await.unwrap_or_else(|_| {
            Err(ServiceError::unavailable("the registry ends, or has a defect: send it again"))
        })
    }

    /// Writes what has gathered once the turn comes, in a task of its own: a caller that goes
    /// away does not take the others' transaction with it.
    fn take_turn(&self) {
        let this = self.clone();
        tokio::spawn(async move {
            let _turn = this.inner.turn.lock().await;
            for _ in 0..ROUNDS {
                tokio::task::yield_now().await;
            }
            let (gathered, is_rest) = this.inner.gathered();
            // Before the write: a defect in it leaves nobody waiting.
            if is_rest {
                this.take_turn();
            }
            this.inner.write_all(gathered).await;
        });
    }
}

impl<T: Clone + Send + 'static, R: Send + 'static> Inner<T, R> {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Waiting<T, R>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first that waits and those that fit to it, in their order; and whether others wait
    /// still.
    fn gathered(&self) -> (Vec<Waiting<T, R>>, bool) {
        let mut waiting = self.waiting();
        let Some(first) = waiting.pop_front() else { return (Vec::new(), false) };
        let mut gathered = vec![first];
        let mut rest = VecDeque::with_capacity(waiting.len());
        for next in waiting.drain(..) {
            if gathered.len() < AT_ONCE && (self.fit)(&gathered[0].item, &next.item) {
                gathered.push(next);
            } else {
                rest.push_back(next);
            }
        }
        *waiting = rest;
        (gathered, !waiting.is_empty())
    }

    async fn write_all(&self, gathered: Vec<Waiting<T, R>>) {
        let (items, tells): (Vec<T>, Vec<_>) =
            gathered.into_iter().map(|of| (of.item, of.tell)).unzip();
        // A send fails where the caller has gone; what it asked for is done.
        match (self.write)(items.clone()).await {
            Ok(made) => {
                for (made, tell) in made.into_iter().zip(tells) {
                    drop(tell.send(Ok(made)));
                }
            }
            Err(error) if items.len() == 1 || !is_one_s_own(&error) => {
                for tell in tells {
                    drop(tell.send(Err(as_told(&error))));
                }
            }
            Err(_) => {
                for (item, tell) in items.into_iter().zip(tells) {
                    let outcome = (self.write)(vec![item]).await;
                    let none = || ServiceError::internal("a write was not answered");
                    let outcome = outcome.and_then(|made| made.into_iter().next().ok_or_else(none));
                    drop(tell.send(outcome));
                }
            }
        }
    }
}

/// Whether an error may be of one of several writes: a database that is away or
/// full fails for all.
fn is_one_s_own(error: &ServiceError) -> bool {
    !matches!(error.code(), Code::Unavailable | Code::ResourceExhausted)
}

/// The same error for another one who waited.
fn as_told(error: &ServiceError) -> ServiceError {
    let mut told = ServiceError::new(error.code(), error.message()).reason(error.reason_text());
    if let Some(field) = error.field_name() {
        told = told.field(field);
    }
    for (key, value) in error.details() {
        told = told.with(key, value);
    }
    match std::error::Error::source(error) {
        Some(source) => told.caused_by(source.to_string()),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{FutureExt, StreamExt, stream};
    use tokio::sync::Semaphore;

    use super::*;

    /// Writes that are counted, and wait until they are let.
    fn counted() -> (Together<u32, u32>, Arc<AtomicUsize>, Arc<Semaphore>) {
        let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counting, waiting) = (Arc::clone(&count), Arc::clone(&gate));
        let write = move |items: Vec<u32>| {
            let (count, gate) = (Arc::clone(&counting), Arc::clone(&waiting));
            async move {
                gate.acquire().await.unwrap().forget();
                count.fetch_add(1, Ordering::SeqCst);
                match items.iter().find(|item| **item % 100 == 13) {
                    Some(bad) => Err(ServiceError::invalid("item", bad)),
                    None => Ok(items.iter().map(|item| item * 2).collect()),
                }
            }
            .boxed()
        };
        (Together::new(|one, other| one / 1000 == other / 1000, write), count, gate)
    }

    /// All of them at the same time; what became of each, in their order.
    async fn written(
        together: &Together<u32, u32>,
        items: impl IntoIterator<Item = u32>,
    ) -> Vec<Result<u32, ServiceError>> {
        let writes = stream::iter(items).map(|item| together.write(item));
        writes.buffered(100).collect().await
    }

    #[tokio::test]
    async fn who_waits_is_written_at_once() {
        let (together, count, gate) = counted();
        gate.add_permits(100);
        let made: Vec<u32> =
            written(&together, 20..60).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(made, (20..60).map(|item| item * 2).collect::<Vec<_>>());
        assert!(count.load(Ordering::SeqCst) <= 2, "{count:?} transactions for 40 writes");
    }

    #[tokio::test]
    async fn what_does_not_fit_goes_in_another_turn() {
        let (together, count, gate) = counted();
        gate.add_permits(100);
        let made = written(&together, [1, 2001, 2, 2002]).await;
        let made: Vec<u32> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made, [2, 4002, 4, 4004]);
        assert!(count.load(Ordering::SeqCst) >= 2);
    }

    #[tokio::test]
    async fn one_that_fails_fails_alone() {
        let (together, _, gate) = counted();
        gate.add_permits(100);
        let made = written(&together, [1, 13, 3]).await;
        assert_eq!(made.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(made[1].as_ref().unwrap_err().field_name(), Some("item"));
    }

    #[tokio::test]
    async fn a_defect_leaves_nobody_waiting() {
        let write = |items: Vec<u32>| {
            async move {
                assert!(!items.contains(&13), "a defect");
                Ok(items)
            }
            .boxed()
        };
        let together = Together::new(|one, other| one == other, write);
        let made = written(&together, [13, 1, 13, 2]).await;
        assert_eq!(made.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!(made[0].as_ref().unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_others_in_peace() {
        let (together, _, gate) = counted();
        let gone = tokio::spawn({
            let together = together.clone();
            async move { together.write(1).await }
        });
        tokio::task::yield_now().await;
        let kept = tokio::spawn(async move { together.write(2).await });
        tokio::task::yield_now().await;
        gone.abort();
        gate.add_permits(100);
        assert_eq!(kept.await.unwrap().unwrap(), 4);
    }
}
