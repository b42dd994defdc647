//! Turns of writers whose writes would make each other compute again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::Place;

/// Branches beyond which those that nobody waits for are forgotten.
const KEPT: usize = 64;

/// A turn on a branch, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _held: OwnedMutexGuard<()>,
}

/// Who is at it, by branch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    places: Arc<std::sync::Mutex<HashMap<Place, Weak<Mutex<()>>>>>,
}

impl Turns {
    /// The next turn, in the order of those who ask.
    pub async fn of(&self, place: Place) -> Turn {
        let turns = self.queue(place);
        Turn { _held: turns.lock_owned().await }
    }

    fn queue(&self, place: Place) -> Arc<Mutex<()>> {
        let mut places = self.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(turns) = places.get(&place).and_then(Weak::upgrade) {
            return turns;
        }
        if places.len() >= KEPT {
            places.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::default();
        places.insert(place, Arc::downgrade(&turns));
        turns
    }
}
