//! The protocol without a database: every interleaving of small histories of
//! writers, bulk commits, flush, compaction, the collection of garbage and readers,
//! with crashes and leases that end at any moment. Actors share nothing but the
//! database, the catalog and the objects: two of a kind are two replicas.
//!
//! The truth is one map that each change alters at the instant it is committed.
//! At every instant the blocks of the head with the delta over them must be the
//! truth; what a reader sees must have been the truth at some instant of its
//! read; no change may be computed from anything else than the truth. Each rule
//! is also switched off once, and then something must break; all but one: that a
//! commit which moves the watermark is never moved itself is more than these
//! histories need, for its fence keeps out whoever would come between.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::rules::{HeadNow, Verdict, judge};

/// Key to the marks of who changed it.
type Rows = BTreeMap<u8, u32>;

/// The rules, each of which can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// A write does not name the epoch it read.
    Epoch,
    /// A write does not name the seq it read.
    KeySeq,
    /// Writers do not wait for an exclusive fence.
    Waiting,
    /// An expired fence is cleared without settling its upload.
    Settling,
    /// A commit does not name the revisions of the blocks it touches.
    Revisions,
    /// An append of given keys takes no fence.
    AppendFence,
    /// A bulk commit leaves the delta where it is.
    Absorbing,
    /// What a listing finds and no block is, is deleted: its upload is not looked at.
    Judging,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Block {
    id: u8,
    rows: Vec<(u8, u32)>,
    /// One bit a row.
    deleted: u8,
    revision: u8,
    begin: u8,
}

impl Block {
    fn live(&self) -> impl Iterator<Item = (usize, (u8, u32))> + '_ {
        let rows = self.rows.iter().copied().enumerate();
        rows.filter(|(at, _)| self.deleted & (1 << at) == 0)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Snapshot {
    number: u8,
    watermark: u8,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Upload {
    Open,
    Committed(u8),
    Aborted,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct FenceRow {
    exclusive: bool,
    lease: u8,
    upload: u8,
    barrier: u8,
    expired: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    head: Snapshot,
    uploads: Vec<Upload>,
    seq: u8,
    epoch: u8,
    leases: u8,
    fence: Option<FenceRow>,
    /// (seq, key, marks; `None` is deleted). It only grows.
    log: Vec<(u8, u8, Option<u32>)>,
    truth: Rows,
    blocks_made: u8,
    /// Objects that are there, each under the upload that wrote it.
    objects: BTreeMap<u8, u8>,
    /// Blocks that some snapshot sees.
    manifest: BTreeSet<u8>,
    actors: Vec<Actor>,
}

/// What an actor wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Aim {
    /// Adds its mark to a key's row.
    Patch(u8),
    Delete(u8),
    Create(u8),
    /// Replaces or adds a key's row, in bulk.
    Upsert(u8),
    BulkDelete(u8),
    /// Adds a key that must not be there.
    Append(u8),
    Flush,
    Compact,
    Read,
    /// Deletes objects that nothing names.
    Collect,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Actor {
    aim: Aim,
    mark: u32,
    step: u8,
    tries: u8,
    epoch: u8,
    seq: u8,
    base: Snapshot,
    fence: Option<FenceRow>,
    /// The upload and the block of who writes one.
    upload: u8,
    written: u8,
    /// What a collector has found.
    listed: Vec<u8>,
    /// A reader's: the truths since it began.
    truths: Vec<Rows>,
}

const DONE: u8 = 9;

fn view(head: &Snapshot, log: &[(u8, u8, Option<u32>)], ceiling: u8) -> Result<Rows, String> {
    let mut rows = Rows::new();
    let changed: BTreeMap<u8, Option<u32>> = log
        .iter()
        .filter(|(seq, ..)| *seq > head.watermark && *seq <= ceiling)
        .map(|(_, key, marks)| (*key, *marks))
        .collect();
    for (_, (key, marks)) in head.blocks.iter().flat_map(|block| block.live()) {
        let twice = rows.insert(key, marks).is_some();
        if twice {
            return Err(format!("key {key} is in the blocks twice"));
        }
    }
    for (key, marks) in changed {
        match marks {
            Some(marks) => rows.insert(key, marks),
            None => rows.remove(&key),
        };
    }
    Ok(rows)
}

/// A commit as the catalog gets it.
struct Commit {
    base: u8,
    /// The block that was written for it.
    block: u8,
    /// (block, revision as read, rows to delete).
    deletions: Vec<(u8, u8, u8)>,
    removals: Vec<(u8, u8)>,
    added: Vec<(u8, u32)>,
    keys_checked: bool,
    watermark: Option<(u8, u8)>,
}

impl World {
    fn new(aims: &[Aim]) -> Self {
        let rows = vec![(0, 1), (2, 1)];
        let block = Block { id: 0, rows, deleted: 0, revision: 0, begin: 1 };
        let actors = aims.iter().enumerate().map(|(at, aim)| Actor {
            aim: *aim,
            mark: 2 << at,
            step: 0,
            tries: 0,
            epoch: 0,
            seq: 0,
            base: Snapshot::default(),
            fence: None,
            upload: 0,
            written: 0,
            listed: Vec::new(),
            truths: Vec::new(),
        });
        Self {
            head: Snapshot { number: 1, watermark: 0, blocks: vec![block] },
            uploads: Vec::new(),
            seq: 0,
            epoch: 0,
            leases: 0,
            fence: None,
            log: Vec::new(),
            truth: BTreeMap::from([(0, 1), (2, 1)]),
            blocks_made: 1,
            objects: BTreeMap::from([(0, u8::MAX)]),
            manifest: BTreeSet::from([0]),
            actors: actors.collect(),
        }
    }

    fn change_truth(&mut self, change: impl FnOnce(&mut Rows)) {
        change(&mut self.truth);
        for actor in &mut self.actors {
            if actor.aim == Aim::Read && actor.step > 0 && actor.step < DONE {
                actor.truths.push(self.truth.clone());
            }
        }
    }

    /// Every state that one step leads to.
    fn next(&self, without: Without) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for at in 0..self.actors.len() {
            let actor = &self.actors[at];
            if actor.step == DONE {
                continue;
            }
            let mut world = self.clone();
            if world.step(at, without)? {
                all.push(world);
            }
            // It dies here; what it holds expires some time.
            if actor.fence.is_some() {
                let mut dead = self.clone();
                dead.actors[at].step = DONE;
                all.push(dead);
            }
        }
        // A lease ends, whether its holder is alive or not.
        if let Some(fence) = self.fence.filter(|fence| !fence.expired) {
            let mut late = self.clone();
            late.fence = Some(FenceRow { expired: true, ..fence });
            all.push(late);
        }
        Ok(all)
    }

    /// One step of one actor; false if it can't move.
    fn step(&mut self, at: usize, without: Without) -> Result<bool, String> {
        match self.actors[at].aim {
            Aim::Patch(key) | Aim::Delete(key) | Aim::Create(key) => self.write(at, key, without),
            Aim::Read => self.read(at),
            Aim::Compact => self.compact(at, without),
            Aim::Collect => self.collect(at, without),
            Aim::Upsert(_) | Aim::BulkDelete(_) | Aim::Flush | Aim::Append(_) => {
                self.bulk(at, without)
            }
        }
    }

    fn read(&mut self, at: usize) -> Result<bool, String> {
        let actor = &mut self.actors[at];
        match actor.step {
            0 => {
                actor.truths = vec![self.truth.clone()];
                actor.seq = self.seq;
            }
            1 => actor.base = self.head.clone(),
            // Pages: the same rows however often they are read.
            2 | 3 => {
                let seen = view(&actor.base, &self.log, actor.seq)?;
                if !actor.truths.contains(&seen) {
                    return Err(format!("a reader saw {seen:?}, which never was the truth"));
                }
            }
            _ => return Ok(false),
        }
        actor.step = if actor.step == 3 { DONE } else { actor.step + 1 };
        if actor.step == 2 {
            // What comes later is not of this snapshot.
            let seen = view(&actor.base, &self.log, actor.seq)?;
            actor.truths.retain(|truth| *truth == seen);
        }
        Ok(true)
    }

    fn write(&mut self, at: usize, key: u8, without: Without) -> Result<bool, String> {
        let (epoch, seq, head) = (self.epoch, self.seq, self.head.clone());
        let actor = &mut self.actors[at];
        match actor.step {
            0 => (actor.epoch, actor.seq) = (epoch, seq),
            1 => actor.base = head,
            _ => return self.write_now(at, key, without),
        }
        actor.step += 1;
        Ok(true)
    }

    fn write_now(&mut self, at: usize, key: u8, without: Without) -> Result<bool, String> {
        let actor = self.actors[at].clone();
        let base = view(&actor.base, &self.log, actor.seq)?.get(&key).copied();
        let made = match (actor.aim, base) {
            (Aim::Patch(_), Some(marks)) => Some(marks | actor.mark),
            (Aim::Delete(_), Some(_)) => None,
            (Aim::Create(_), None) => Some(actor.mark),
            // Not found, or there already: answered, nothing written.
            _ => {
                self.actors[at].step = DONE;
                return Ok(true);
            }
        };
        let key_seq = self.log.iter().filter(|(_, of, _)| *of == key).map(|(seq, ..)| *seq).max();
        let now = HeadNow {
            epoch: if without == Without::Epoch { actor.epoch } else { self.epoch }.into(),
            is_fenced: self.fence.is_some_and(|fence| fence.exclusive)
                && without != Without::Waiting,
            key_seq: match key_seq {
                Some(seq) if without != Without::KeySeq => seq.into(),
                _ => 0,
            },
        };
        match judge(actor.epoch.into(), actor.seq.into(), now) {
            Verdict::Write => {
                if self.truth.get(&key).copied() != base {
                    return Err(format!("{:?} wrote over what it had not read", actor.aim));
                }
                self.seq += 1;
                self.log.push((self.seq, key, made));
                self.change_truth(|truth| {
                    match made {
                        Some(marks) => truth.insert(key, marks),
                        None => truth.remove(&key),
                    };
                });
                self.actors[at].step = DONE;
                Ok(true)
            }
            Verdict::Fenced => Ok(self.settle_expired(without)),
            Verdict::Moved => {
                let actor = &mut self.actors[at];
                actor.tries += 1;
                actor.step = if actor.tries > 2 { DONE } else { 0 };
                Ok(true)
            }
        }
    }

    /// Whoever waits for an expired fence settles it. False: it has not expired.
    fn settle_expired(&mut self, without: Without) -> bool {
        let Some(fence) = self.fence.filter(|fence| fence.expired) else { return false };
        let upload = &mut self.uploads[usize::from(fence.upload)];
        if *upload == Upload::Open && without != Without::Settling {
            *upload = Upload::Aborted;
        }
        self.open_fence(fence);
        true
    }

    fn open_fence(&mut self, fence: FenceRow) {
        if self.fence.is_some_and(|now| now.lease == fence.lease) {
            self.fence = None;
            self.epoch += u8::from(fence.exclusive);
        }
    }

    fn compact(&mut self, at: usize, without: Without) -> Result<bool, String> {
        if self.actors[at].step == 0 {
            if self.actors[at].tries == 0 {
                self.actors[at].upload = self.open_upload();
            }
            self.actors[at].base = self.head.clone();
            self.write_block(at);
            self.actors[at].step = 1;
            return Ok(true);
        }
        let actor = self.actors[at].clone();
        let base = actor.base;
        let commit = Commit {
            base: base.number,
            block: actor.written,
            deletions: Vec::new(),
            removals: base.blocks.iter().map(|block| (block.id, block.revision)).collect(),
            added: base.blocks.iter().flat_map(|b| b.live().map(|(_, row)| row)).collect(),
            keys_checked: false,
            watermark: None,
        };
        let passed = self.commit(&commit, without);
        if passed {
            self.uploads[usize::from(actor.upload)] = Upload::Committed(self.head.number);
        }
        let actor = &mut self.actors[at];
        actor.tries += 1;
        actor.step = if passed || actor.tries > 1 { DONE } else { 0 };
        if !passed && actor.step == DONE {
            let upload = usize::from(actor.upload);
            self.uploads[upload] = Upload::Aborted;
        }
        Ok(true)
    }

    fn open_upload(&mut self) -> u8 {
        self.uploads.push(Upload::Open);
        u8::try_from(self.uploads.len() - 1).unwrap()
    }

    /// An object under the actor's upload, before anything names it.
    fn write_block(&mut self, at: usize) {
        self.actors[at].written = self.blocks_made;
        self.objects.insert(self.blocks_made, self.actors[at].upload);
        self.blocks_made += 1;
    }

    /// Lists, judges, deletes: three steps, between which all may happen.
    fn collect(&mut self, at: usize, without: Without) -> Result<bool, String> {
        let listed = self.actors[at].listed.clone();
        match self.actors[at].step {
            0 => self.actors[at].listed = self.objects.keys().copied().collect(),
            1 => {
                let is_open = |block: &u8| {
                    let upload = self.objects.get(block).map(|upload| usize::from(*upload));
                    let state = upload.and_then(|upload| self.uploads.get(upload));
                    state == Some(&Upload::Open) && without != Without::Judging
                };
                let garbage = listed.into_iter().filter(|block| !is_open(block));
                let garbage = garbage.filter(|block| !self.manifest.contains(block)).collect();
                self.actors[at].listed = garbage;
            }
            _ => self.objects.retain(|block, _| !listed.contains(block)),
        }
        let actor = &mut self.actors[at];
        actor.step = if actor.step == 2 { DONE } else { actor.step + 1 };
        Ok(true)
    }

    fn bulk(&mut self, at: usize, without: Without) -> Result<bool, String> {
        let actor = self.actors[at].clone();
        let fenceless = matches!(actor.aim, Aim::Append(_)) && without == Without::AppendFence;
        match actor.step {
            0 => {
                if self.fence.is_some() && !fenceless {
                    return Ok(self.settle_expired(without));
                }
                let upload = self.open_upload();
                self.actors[at].upload = upload;
                self.leases += 1;
                let fence = FenceRow {
                    exclusive: actor.aim != Aim::Flush,
                    lease: self.leases,
                    upload,
                    barrier: self.seq,
                    expired: false,
                };
                self.actors[at].fence = Some(fence);
                if !fenceless {
                    self.fence = Some(fence);
                }
            }
            1 => {
                self.actors[at].base = self.head.clone();
                self.write_block(at);
            }
            2 => return self.bulk_commit(at, without),
            _ => {
                if let Some(fence) = actor.fence {
                    self.open_fence(fence);
                }
                self.actors[at].fence = None;
                self.actors[at].step = DONE;
                return Ok(true);
            }
        }
        self.actors[at].step += 1;
        Ok(true)
    }

    fn bulk_commit(&mut self, at: usize, without: Without) -> Result<bool, String> {
        let actor = self.actors[at].clone();
        let Some(fence) = actor.fence else { return Ok(false) };
        // Its upload was settled: the catalog refuses it.
        if self.uploads[usize::from(fence.upload)] != Upload::Open {
            self.actors[at].step = 3;
            return Ok(true);
        }
        let Some(commit) = planned(&actor, fence, &self.log, without)? else {
            self.actors[at].step = 3;
            return Ok(true);
        };
        if !self.commit(&commit, without) {
            let actor = &mut self.actors[at];
            actor.tries += 1;
            actor.step = if actor.tries > 2 { 3 } else { 1 };
            return Ok(true);
        }
        self.uploads[usize::from(fence.upload)] = Upload::Committed(self.head.number);
        let mark = actor.mark;
        match actor.aim {
            Aim::Upsert(key) => self.change_truth(|truth| {
                truth.insert(key, mark);
            }),
            Aim::BulkDelete(key) => self.change_truth(|truth| {
                truth.remove(&key);
            }),
            Aim::Append(key) => {
                if self.truth.contains_key(&key) {
                    return Err(format!("an append of key {key}, which is there"));
                }
                self.change_truth(|truth| {
                    truth.insert(key, mark);
                });
            }
            _ => {}
        }
        self.actors[at].step = 3;
        Ok(true)
    }

    /// The catalog's side (its `model/commit.rs` and `model/deletion.rs`).
    fn commit(&mut self, commit: &Commit, without: Without) -> bool {
        let head = &self.head;
        let added_since = head.blocks.iter().any(|block| block.begin > commit.base);
        let moves = commit.watermark.is_some();
        let fits = if moves {
            commit.base == head.number
                && commit.watermark.is_some_and(|(from, _)| from == head.watermark)
        } else {
            commit.base == head.number || !(commit.keys_checked && added_since)
        };
        let known = |id: u8, revision: u8| {
            head.blocks.iter().any(|block| {
                block.id == id && (block.revision == revision || without == Without::Revisions)
            })
        };
        let untouched = commit.deletions.iter().all(|(id, revision, _)| known(*id, *revision))
            && commit.removals.iter().all(|(id, revision)| known(*id, *revision));
        if !fits || !untouched {
            return false;
        }
        let number = self.head.number + 1;
        let mut blocks = self.head.blocks.clone();
        for (id, _, rows) in &commit.deletions {
            for block in blocks.iter_mut().filter(|block| block.id == *id) {
                block.deleted |= rows;
                block.revision = number;
            }
        }
        blocks.retain(|block| !commit.removals.iter().any(|(id, _)| *id == block.id));
        if !commit.added.is_empty() {
            let rows = commit.added.clone();
            let id = commit.block;
            self.manifest.insert(id);
            blocks.push(Block { id, rows, deleted: 0, revision: 0, begin: number });
        }
        let watermark = commit.watermark.map_or(self.head.watermark, |(_, to)| to);
        self.head = Snapshot { number, watermark, blocks };
        true
    }

    fn check(&self) -> Result<(), String> {
        let readers = self.actors.iter().filter(|actor| actor.aim == Aim::Read);
        let read = readers.filter(|actor| actor.step > 1 && actor.step < DONE);
        let seen = self.head.blocks.iter().chain(read.flat_map(|actor| &actor.base.blocks));
        for block in seen {
            if !self.objects.contains_key(&block.id) {
                return Err(format!("block {} is seen and its object is gone", block.id));
            }
        }
        let seen = view(&self.head, &self.log, self.seq)?;
        if seen == self.truth {
            return Ok(());
        }
        Err(format!("the head shows {seen:?} and the truth is {:?}", self.truth))
    }
}

/// What a bulk actor commits from the head and the delta that it read.
fn planned(
    actor: &Actor,
    fence: FenceRow,
    log: &[(u8, u8, Option<u32>)],
    without: Without,
) -> Result<Option<Commit>, String> {
    let base = &actor.base;
    let absorbs = actor.aim == Aim::Flush || without != Without::Absorbing;
    let mut changed: BTreeMap<u8, Option<u32>> = BTreeMap::new();
    if absorbs {
        let within = log.iter().filter(|(seq, ..)| *seq > base.watermark && *seq <= fence.barrier);
        changed.extend(within.map(|(_, key, marks)| (*key, *marks)));
    }
    match actor.aim {
        Aim::Upsert(key) => {
            changed.insert(key, Some(actor.mark));
        }
        Aim::BulkDelete(key) => {
            changed.insert(key, None);
        }
        Aim::Append(key) => {
            if view(base, log, fence.barrier)?.contains_key(&key) {
                return Ok(None);
            }
            changed.insert(key, Some(actor.mark));
        }
        _ => {}
    }
    let mut deletions = Vec::new();
    for block in &base.blocks {
        let rows = block.live().filter(|(_, (key, _))| changed.contains_key(key));
        let rows = rows.fold(0, |rows, (at, _)| rows | 1 << at);
        if rows != 0 {
            deletions.push((block.id, block.revision, rows));
        }
    }
    Ok(Some(Commit {
        base: base.number,
        block: actor.written,
        deletions,
        removals: Vec::new(),
        added: changed.into_iter().filter_map(|(key, marks)| Some((key, marks?))).collect(),
        keys_checked: true,
        watermark: absorbs.then_some((base.watermark, fence.barrier.max(base.watermark))),
    }))
}

/// Tries every interleaving; answers how many states there are.
fn explore(aims: &[Aim], without: Without) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut waiting = vec![World::new(aims)];
    while let Some(world) = waiting.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        world.check()?;
        waiting.extend(world.next(without)?);
    }
    Ok(seen.len())
}

const AIMS: [Aim; 11] = [
    Aim::Patch(0),
    Aim::Delete(0),
    Aim::Create(1),
    Aim::Patch(1),
    Aim::Upsert(0),
    Aim::Upsert(1),
    Aim::BulkDelete(0),
    Aim::Append(1),
    Aim::Flush,
    Aim::Compact,
    Aim::Read,
];

#[test]
fn every_history_of_three_actors_keeps_the_truth() {
    let mut states = 0;
    for (i, a) in AIMS.iter().enumerate() {
        for (j, b) in AIMS.iter().enumerate().skip(i) {
            for c in AIMS.iter().skip(j) {
                let aims = [*a, *b, *c];
                states += explore(&aims, Without::Nothing)
                    .unwrap_or_else(|error| panic!("{aims:?}: {error}"));
            }
        }
    }
    println!("{states} states");
    assert!(states > 50_000, "only {states} states: the actors do not meet");
}

#[test]
fn histories_of_four_actors_around_flush_and_compaction() {
    for aims in [
        [Aim::Patch(0), Aim::Flush, Aim::Compact, Aim::Read],
        [Aim::Patch(0), Aim::Patch(0), Aim::Flush, Aim::Upsert(0)],
        [Aim::Create(1), Aim::Append(1), Aim::Flush, Aim::Compact],
        [Aim::Delete(0), Aim::Append(0), Aim::Flush, Aim::Read],
    ] {
        explore(&aims, Without::Nothing).unwrap_or_else(|error| panic!("{aims:?}: {error}"));
    }
}

#[test]
fn histories_with_a_collector_and_two_replicas() {
    let mut states = 0;
    for aims in [
        vec![Aim::Collect, Aim::Flush, Aim::Patch(0), Aim::Read],
        vec![Aim::Collect, Aim::Compact, Aim::Read],
        vec![Aim::Collect, Aim::Compact, Aim::Compact],
        vec![Aim::Collect, Aim::Flush, Aim::Flush, Aim::Delete(0)],
        vec![Aim::Collect, Aim::Collect, Aim::Upsert(0)],
        vec![Aim::Collect, Aim::Upsert(1), Aim::Upsert(1), Aim::Compact],
        vec![Aim::Flush, Aim::Flush, Aim::Compact, Aim::Patch(0)],
    ] {
        states +=
            explore(&aims, Without::Nothing).unwrap_or_else(|error| panic!("{aims:?}: {error}"));
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states: the actors do not meet");
}

#[test]
fn without_any_one_rule_something_is_lost() {
    for (without, aims) in [
        (Without::Epoch, vec![Aim::Patch(0), Aim::Upsert(0)]),
        (Without::KeySeq, vec![Aim::Patch(0), Aim::Patch(0)]),
        (Without::Waiting, vec![Aim::Patch(0), Aim::Upsert(0)]),
        (Without::Settling, vec![Aim::Patch(0), Aim::Upsert(0), Aim::Upsert(0)]),
        (Without::Revisions, vec![Aim::Compact, Aim::BulkDelete(0)]),
        (Without::AppendFence, vec![Aim::Create(1), Aim::Append(1)]),
        (Without::Absorbing, vec![Aim::Patch(0), Aim::Upsert(0)]),
        (Without::Judging, vec![Aim::Collect, Aim::Upsert(0)]),
        (Without::Judging, vec![Aim::Collect, Aim::Compact]),
    ] {
        explore(&aims, Without::Nothing).unwrap();
        let broken = explore(&aims, without);
        assert!(broken.is_err(), "without {without:?} nothing breaks in {aims:?}");
    }
}
