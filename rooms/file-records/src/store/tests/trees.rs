//! A tree that is changed as by `mv`, `rm`, `ln` and the like, and scanned between: whatever
//! moved where, the rows are the tree, and what is said of a file goes along.

use std::collections::{BTreeMap, HashMap};

use file_scan::{Entry, Identity, Kind, Listing, Paged, Times};

use super::{Place, on_each, split};
use crate::model::Mode;
use crate::store::{Batch, Listed, Merged, ScanKey, Store, all, get};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Inode {
    kind: Kind,
    size: i64,
    times: Times,
    mode: i64,
}

/// Names and inodes, as a file system has them.
#[derive(Debug, Default, Clone)]
pub struct Tree {
    names: BTreeMap<String, u64>,
    inodes: HashMap<u64, Inode>,
    clock: i64,
    /// Inodes that are given again.
    free: Vec<u64>,
}

/// Kind, inode, size, mode, links, last change (of a file).
type Row = (i64, i64, i64, i64, i64, i64);

fn is_at_or_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    fn make(&mut self, path: &str, kind: Kind, size: i64) {
        let now = self.tick();
        let times = Times { modified: now, changed: now, born: Some(now) };
        let ino = self.free.pop().unwrap_or(10 + self.clock.unsigned_abs());
        self.inodes.insert(ino, Inode { kind, size, times, mode: 0o644 });
        self.names.insert(path.to_owned(), ino);
    }

    /// A file, with the directories above it.
    fn file(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            if !self.names.contains_key(&path[..at]) {
                self.make(&path[..at], Kind::Dir, 0);
            }
        }
        self.make(path, Kind::File, 100 + self.clock);
    }

    fn put(&mut self, what: &str) {
        match (what.split_once('='), what.strip_suffix('@')) {
            (Some((new, old)), _) => self.ln(old, new),
            (_, Some(path)) => self.make(path, Kind::Symlink, 3),
            _ => self.file(what),
        }
    }

    fn touch(&mut self, ino: u64, set: impl FnOnce(&mut Inode)) {
        let now = self.tick();
        let inode = self.inodes.get_mut(&ino).unwrap();
        inode.times.changed = now;
        set(inode);
    }

    /// `rm -r`.
    fn rm(&mut self, path: &str) {
        let gone: Vec<String> =
            self.names.keys().filter(|at| is_at_or_below(at, path)).cloned().collect();
        for path in gone {
            let ino = self.names.remove(&path).unwrap();
            match self.names.values().any(|other| *other == ino) {
                true => self.touch(ino, |_| {}),
                false => self.free.push(ino),
            }
        }
    }

    /// Moves a name onto one that is not taken, or takes its place.
    fn mv(&mut self, old: &str, new: &str) {
        assert!(!is_at_or_below(new, old) && self.names.contains_key(old), "mv {old} {new}");
        self.rm(new);
        let moved: Vec<String> =
            self.names.keys().filter(|at| is_at_or_below(at, old)).cloned().collect();
        for path in moved {
            let ino = self.names.remove(&path).unwrap();
            self.names.insert(format!("{new}{}", &path[old.len()..]), ino);
        }
        self.touch(self.names[new], |_| {});
    }

    fn ln(&mut self, old: &str, new: &str) {
        let ino = self.names[old];
        self.names.insert(new.to_owned(), ino);
        self.touch(ino, |_| {});
    }

    fn chmod(&mut self, path: &str, mode: i64) {
        self.touch(self.names[path], |inode| inode.mode = mode);
    }

    /// `mv a b`, `rm a`, `ln a b`, `chmod a`, `file a`, one after the other.
    fn run(&mut self, script: &str) {
        for line in script.split(';') {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["mv", old, new] => self.mv(old, new),
                ["ln", old, new] => self.ln(old, new),
                ["rm", path] => self.rm(path),
                ["chmod", path] => self.chmod(path, 0o700),
                ["file", path] => self.file(path),
                _ => panic!("{line}"),
            }
        }
    }

    fn links(&self, ino: u64) -> i64 {
        self.names.values().filter(|other| **other == ino).count() as i64
    }

    fn entry(&self, path: &str) -> Entry {
        let ino = self.names[path];
        let Inode { kind, size, times, mode } = self.inodes[&ino];
        let links = if kind == Kind::File { self.links(ino) } else { 1 };
        let name = split(path).1.as_bytes().to_vec();
        Entry { name, kind, size, times, dev: 1, ino, links, mode, uid: 0, gid: 0, target: None }
    }

    /// All directories, a parent before its children.
    fn listed(&self) -> Vec<Listed> {
        let dirs = self.names.iter().filter(|(_, ino)| self.inodes[ino].kind == Kind::Dir);
        let root = (String::new(), 2, Some(1));
        let dirs = dirs.map(|(path, ino)| (path.clone(), *ino, self.inodes[ino].times.born));
        std::iter::once(root)
            .chain(dirs)
            .map(|(path, ino, born)| self.listing(path, ino, born))
            .collect()
    }

    fn listing(&self, path: String, ino: u64, born: Option<i64>) -> Listed {
        let entries = self.names.keys().filter(|at| split(at).0 == path && !at.is_empty());
        let entries = entries.map(|at| self.entry(at)).collect();
        let path = path.into_bytes();
        Listed::from(Listing {
            path,
            dev: 1,
            ino,
            modified: 0,
            born,
            entries,
            large: None,
            error: None,
        })
    }

    fn inode_at(&self, path: &str) -> Option<Identity> {
        self.names.get(path).map(|ino| Identity { dev: 1, ino: *ino })
    }

    fn rows(&self) -> BTreeMap<String, Row> {
        let row = |path: &String| {
            let entry = self.entry(path);
            let changed = if entry.kind == Kind::Dir { 0 } else { entry.times.changed };
            let ino = entry.ino.cast_signed();
            (entry.kind as i64, ino, entry.size, entry.mode, entry.links, changed)
        };
        self.names.keys().map(|path| (path.clone(), row(path))).collect()
    }
}

/// How a scan comes by its listings.
struct Way {
    /// Directories of a batch.
    batch: usize,
    /// Every so manyth directory comes in pages.
    paged: usize,
    /// What is at a path now can be asked.
    looks: bool,
}

impl Place<'_> {
    async fn scan_tree(&self, tree: &Tree, way: &Way) -> Merged {
        let scan = self.store.begin_scan(self.location, Mode::Metadata).await.unwrap();
        let inode_at = |path: &str| tree.inode_at(path).filter(|_| way.looks);
        let mut merged = Merged::default();
        let mut batch = Batch::default();
        for (at, listed) in tree.listed().into_iter().enumerate() {
            let mut paged = None;
            match way.paged > 0 && at % way.paged == way.paged - 1 {
                true => paged = Some(listed),
                false => batch.listed.push(listed),
            }
            if paged.is_some() || batch.listed.len() == way.batch {
                let batch = std::mem::take(&mut batch);
                merged += self.store.merge(scan, batch, inode_at).await.unwrap();
            }
            if let Some(listed) = paged {
                merged += self.scan_pages(scan, listed, inode_at).await;
            }
        }
        merged += self.store.merge(scan, batch, inode_at).await.unwrap();
        merged.moved += self.store.match_moves(scan).await.unwrap();
        while self.store.sweep(scan).await.unwrap().is_some() {}
        self.store.end_scan(scan, (1, 2), 0, "").await.unwrap();
        merged
    }

    pub(super) async fn scan_pages(
        &self,
        scan: ScanKey,
        mut listed: Listed,
        inode_at: impl Fn(&str) -> Option<Identity>,
    ) -> Merged {
        let totals = listed.listing.totals();
        let entries = std::mem::take(&mut listed.listing.entries);
        let end = Paged { print: listed.print, totals, ..Paged::default() };
        let large = self.store.begin_large(scan, listed, &inode_at).await.unwrap();
        let Some(mut large) = large else {
            return Merged { unchanged: 1, ..Merged::default() };
        };
        let mut merged = Merged::default();
        for page in entries.chunks(2) {
            let page = page.to_vec();
            merged += self.store.merge_page(scan, &mut large, page, &inode_at).await.unwrap();
        }
        merged.moved += large.moved;
        merged += self.store.end_large(scan, large, &end).await.unwrap();
        merged
    }

    /// The numbers of entries by their paths; the rows are those of the tree.
    async fn assert_is(&self, tree: &Tree, when: &str) -> HashMap<String, i64> {
        let (rows, ids) = entries(self.store).await;
        assert_eq!(rows, tree.rows(), "{when}");
        let sql = "SELECT path, ino, files, bytes FROM dir ORDER BY path";
        let dirs = all(self.store.read(), sql, vec![]).await.unwrap();
        let number = |row, column| get::<i64>(row, column).unwrap();
        let dirs: BTreeMap<String, (i64, i64, i64)> = dirs
            .iter()
            .map(|row| {
                let numbers = (number(row, "ino"), number(row, "files"), number(row, "bytes"));
                (get(row, "path").unwrap(), numbers)
            })
            .collect();
        let are = tree.listed().into_iter().map(|listed| {
            let (files, bytes) = listed.listing.totals();
            (listed.path, (listed.listing.ino.cast_signed(), files, bytes))
        });
        assert_eq!(dirs, are.collect(), "{when}");
        ids
    }
}

async fn entries(store: &Store) -> (BTreeMap<String, Row>, HashMap<String, i64>) {
    let sql = "SELECT e.id, d.path, e.name, CAST(e.kind AS bigint) AS kind, e.ino, e.size,
        CAST(e.mode AS bigint) AS mode, e.links, e.changed, e.gone FROM entry e JOIN dir d ON d.id = e.dir_id";
    let (mut rows, mut ids) = (BTreeMap::new(), HashMap::new());
    for row in all(store.read(), sql, vec![]).await.unwrap() {
        let number = |column| get::<i64>(&row, column).unwrap();
        let (dir, name): (String, String) =
            (get(&row, "path").unwrap(), get(&row, "name").unwrap());
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        assert_eq!(get::<Option<i64>>(&row, "gone").unwrap(), None, "{path}");
        let changed = if number("kind") == Kind::Dir as i64 { 0 } else { number("changed") };
        ids.insert(path.clone(), number("id"));
        let [kind, ino, size, mode, links] = ["kind", "ino", "size", "mode", "links"].map(number);
        rows.insert(path, (kind, ino, size, mode, links, changed));
    }
    (rows, ids)
}

/// What is there (`a=b`: a name of `b`, `a@`: a symbolic link), what is done, and where what is said of a path is then to be found.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const CASES: [Case; 23] = [
    ("p/x/1 e/2", "mv p q; rm q/x; mv e q/x", &[("e/2", "q/x/2"), ("p", "q"), ("e", "q/x")]),
    ("p/x/y/1 e/2", "mv p/x z; rm z/y; mv e z/y", &[("p/x", "z"), ("e/2", "z/y/2")]),
    ("a/b/f a/g", "mv a c; mv c/b d", &[("a/b/f", "d/f"), ("a/g", "c/g"), ("a/b", "d")]),
    ("a/b/f a/g", "mv a/b z; mv a b", &[("a/b/f", "z/f"), ("a/g", "b/g"), ("a/b", "z")]),
    ("a/f b/g", "mv b d; mv a b", &[("a/f", "b/f"), ("b/g", "d/g"), ("a", "b"), ("b", "d")]),
    ("a/f b/g", "mv a t; mv b a; mv t b", &[("a/f", "b/f"), ("b/g", "a/g"), ("a", "b")]),
    ("a/f b/g c/h", "mv a t; mv b a; mv c b; mv t c", &[("a/f", "c/f"), ("c/h", "b/h")]),
    ("a/f a/s/h k", "mv a/f g; mv a/s/h h; rm a", &[("a/f", "g"), ("a/s/h", "h")]),
    ("a/b/f a/g", "mv a/b b; rm a", &[("a/b/f", "b/f"), ("a/b", "b")]),
    ("a/f b/g", "mv a b/a2; mv b c", &[("a/f", "c/a2/f"), ("b/g", "c/g")]),
    ("p/x/1", "mv p q; file p/x/2", &[("p/x/1", "q/x/1"), ("p", "q")]),
    ("a/x/f", "mv a z; file a/n; mv z/x a/x", &[("a/x/f", "a/x/f"), ("a", "z"), ("a/x", "a/x")]),
    ("a/b/f", "mv a t; file a/n; mv t a/b", &[("a/b/f", "a/b/b/f"), ("a/b", "a/b/b")]),
    ("o/m/f k/g", "mv o/m k/m; rm o; mv k o", &[("o/m/f", "o/m/f"), ("k/g", "o/g"), ("k", "o")]),
    ("a/f g", "mv g h; mv a g", &[("a/f", "g/f"), ("g", "h")]),
    ("f k", "mv f g; chmod g", &[("f", "g")]),
    ("f k", "mv f g; ln g h", &[("f", "g")]),
    ("a/f", "chmod a", &[("a/f", "a/f"), ("a", "a")]),
    ("a/f k", "mv a/f g; rm a; file a", &[("a/f", "g")]),
    ("a/b/f k/h", "mv a/b/f k/g; rm a; file a", &[("a/b/f", "k/g")]),
    ("a/f a/g=a/f k", "mv a/f b; mv a/g c", &[("a/f", "b"), ("a/g", "c")]),
    ("a/f b/l b/e=a/f", "mv a/f f; mv b/e e", &[("a/f", "f"), ("b/e", "e")]),
    ("a/f a/p@ k/f", "mv a/p k/q", &[("a/p", "k/q")]),
];

#[tokio::test]
async fn what_is_said_goes_along() {
    on_each(async |store| {
        for (at, (files, script, said)) in CASES.into_iter().enumerate() {
            for batch in [100, 1] {
                let place = Place::new(&store, &format!("/made {at} {batch}")).await;
                let mut tree = Tree::default();
                files.split_whitespace().for_each(|path| tree.put(path));
                let way = Way { batch, paged: 0, looks: batch > 1 };
                place.scan_tree(&tree, &way).await;
                let before = place.assert_is(&tree, script).await;
                tree.run(script);
                place.scan_tree(&tree, &way).await;
                let after = place.assert_is(&tree, script).await;
                for (old, new) in said {
                    assert_eq!(before[*old], after[*new], "{script}: {old} is now {new}");
                }
                let again = place.scan_tree(&tree, &way).await;
                assert_eq!(again.unchanged, tree.listed().len() as i64, "{script}");
                place.forget().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_went_aside_is_swept_however_long_its_path_is() {
    on_each(async |store| {
        let way = Way { batch: 100, paged: 0, looks: true };
        for chars in [399, 400, 401, 500] {
            let place = Place::new(&store, &format!("/made {chars}")).await;
            let dir = format!("{}/{}", "a".repeat(199), "b".repeat(chars - 200));
            let mut tree = Tree::default();
            ["f", "s/f"].iter().for_each(|file| tree.file(&format!("{dir}/{file}")));
            tree.file("other/g");
            place.scan_tree(&tree, &way).await;
            tree.run(&format!("rm {dir}; mv other {dir}"));
            place.scan_tree(&tree, &way).await;
            place.assert_is(&tree, &format!("{chars}")).await;
            place.forget().await;
        }
    })
    .await;
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below.max(1) as u64).unwrap()
    }

    fn pick(&mut self, from: &[String]) -> Option<String> {
        (!from.is_empty()).then(|| from[self.roll(from.len())].clone())
    }
}

impl Tree {
    fn of_kind(&self, kind: Kind) -> Vec<String> {
        let of = |ino: &u64| self.inodes[ino].kind == kind;
        self.names.iter().filter(|(_, ino)| of(ino)).map(|(path, _)| path.clone()).collect()
    }

    /// One change of a kind that people make.
    fn change(&mut self, dice: &mut Dice) {
        let (dirs, files) = (self.of_kind(Kind::Dir), self.of_kind(Kind::File));
        let into = if dice.roll(3) == 0 { None } else { dice.pick(&dirs) };
        let name = ["a", "b", "c", "a.b", "a0", "\u{fc}", "x"][dice.roll(7)];
        let new = into.map_or_else(|| name.to_owned(), |dir| format!("{dir}/{name}"));
        let (dir, file) = (dice.pick(&dirs), dice.pick(&files));
        let is_taken = self.names.contains_key(&new);
        match (dice.roll(12), dir, file) {
            (0 | 1, _, _) if !is_taken => self.file(&new),
            (2, _, _) if !is_taken => self.make(&new, Kind::Dir, 0),
            (3, Some(dir), _) => self.rm(&dir),
            (4, _, Some(file)) => self.rm(&file),
            (5, _, Some(file)) if !is_at_or_below(&new, &file) && !is_at_or_below(&file, &new) => {
                self.mv(&file, &new);
            }
            (6..=8, Some(dir), _) if !is_at_or_below(&new, &dir) && !is_at_or_below(&dir, &new) => {
                self.mv(&dir, &new);
            }
            (9, Some(one), _) => {
                if let Some(other) = dice.pick(&dirs)
                    && !is_at_or_below(&one, &other)
                    && !is_at_or_below(&other, &one)
                {
                    self.mv(&one, "swapped");
                    self.mv(&other, &one);
                    self.mv("swapped", &other);
                }
            }
            (10, _, Some(file)) if !is_taken => self.ln(&file, &new),
            (11, Some(path), _) | (11, None, Some(path)) => {
                let mode = self.clock % 0o1000;
                self.chmod(&path, mode);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn whatever_moves_the_rows_are_the_tree() {
    on_each(async |store| {
        let (mut alone, mut kept) = (0, 0);
        for seed in 0..8 {
            let mut dice = Dice(seed * 7_919 + 1);
            let place = Place::new(&store, &format!("/made {seed}")).await;
            let mut tree = Tree::default();
            let mut ids = HashMap::new();
            for round in 0..20 {
                let before = tree.clone();
                for _ in 0..=dice.roll(if round == 0 { 60 } else { 12 }) {
                    tree.change(&mut dice);
                }
                let way = Way {
                    batch: [1, 2, 5, 100][dice.roll(4)],
                    paged: [0, 0, 2, 5][dice.roll(4)],
                    looks: dice.roll(4) > 0,
                };
                place.scan_tree(&tree, &way).await;
                let now = place.assert_is(&tree, &format!("seed {seed} round {round}")).await;
                // Of those whose old and new name no other had the number is the same.
                for (old, ino) in &before.names {
                    let new = tree.names.iter().find(|(_, other)| *other == ino);
                    let Some((new, _)) = new.filter(|(new, _)| !before.names.contains_key(*new))
                    else {
                        continue;
                    };
                    let is_same = before.inodes[ino].times.born == tree.inodes[ino].times.born;
                    let is_one = before.links(*ino) == 1 && tree.links(*ino) == 1;
                    if is_same && is_one && !tree.names.contains_key(old) {
                        alone += 1;
                        kept += usize::from(ids.get(old) == now.get(new));
                    }
                }
                ids = now;
            }
            place.forget().await;
        }
        println!("{kept} of {alone} kept what is said of them");
        assert!(alone > 40 && kept * 100 >= alone * 95, "{kept} of {alone}");
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_keeps_its_totals() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let mut tree = Tree::default();
        ["d/a", "d/b", "d/e/f"].iter().for_each(|path| tree.file(path));
        let way = Way { batch: 100, paged: 0, looks: true };
        place.scan_tree(&tree, &way).await;
        let usage = || store.usage(place.location, "d");
        let before = usage().await.unwrap();
        for seen in [0, 1] {
            let scan = store.begin_scan(place.location, Mode::Metadata).await.unwrap();
            let mut listed = tree.listed();
            listed.retain(|listed| listed.path != "d/e");
            let d = listed.iter_mut().find(|listed| listed.path == "d").unwrap();
            d.listing.entries.truncate(seen);
            d.listing.error = Some("can't be read".to_owned());
            d.listing.born = None;
            d.print = None;
            store.merge(scan, Batch { listed }, |_| None).await.unwrap();
            assert_eq!(usage().await.unwrap(), before);
        }
        // It is known by its birth when it can be read again elsewhere.
        let ids = entries(&store).await.1;
        tree.run("mv d z");
        assert_eq!(place.scan_tree(&tree, &way).await.moved, 1);
        assert_eq!(place.assert_is(&tree, "moved").await["z/e/f"], ids["d/e/f"]);
    })
    .await;
}
