//! A pickle's opcodes, followed on a stack of our own. Nothing that they name is
//! imported, made or called.

use std::collections::HashMap;

use super::globals::{self, Grade, grade};
use super::inflate::Stream;
use super::joblib::{Raw, raw_of};
use super::value::Value;
use super::{Finding, Notes, Place, Verdict};
use crate::source::{Input, Meter, Numbers, ReadError};

/// Bytes of a text that is kept: longer ones name no module.
const TEXT_BYTES_MAX: u64 = 512;
const STACK_MAX: usize = 1 << 20;
const MEMO_MAX: usize = 2 << 20;
/// Elements of tuples that are kept, all together.
const KEPT_MAX: usize = 4 << 20;
/// What judging a global costs, and how many judgements are kept.
const GRADE_OPCODES: u64 = 256;
const GRADED_MAX: usize = 4_096;
const EXTENSION_CODE: &str = "EXTENSION_CODE";
/// Pickles one behind the other in a file.
const PICKLES_MAX: usize = 64;
/// Pickles inside pickles, as joblib has them for arrays of objects.
const DEPTH_MAX: u32 = 4;
/// A file of torch before 1.6: this, then four pickles more, then raw storages.
const TORCH_LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const TORCH_LEGACY_PICKLES: usize = 5;

/// How sure it is that something is a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sure {
    /// Its name or its first bytes say so: what can't be followed is a finding.
    Yes,
    /// It may be one by chance: it counts if it ends as one, or for what a loader would have run
    /// before it fails.
    No,
}

/// What following a pickle came to.
#[derive(Debug, Default, Clone, Copy)]
struct Walk {
    globals: u64,
    arrays: u64,
    /// Where something was called, made or filled last.
    called: Option<u64>,
}

/// Why a pickle could not be followed.
enum Stuck {
    /// Its bytes end, or can't be read, or are more than is read.
    Read(ReadError),
    /// A loader fails there, too.
    Malformed(String),
    /// A loader may know how to go on.
    Lost(&'static str),
}

impl Stuck {
    /// Whether a loader may run what was not looked at.
    const fn is_lost(&self) -> bool {
        !matches!(self, Self::Malformed(_) | Self::Read(ReadError::Truncated))
    }
}

impl From<ReadError> for Stuck {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A pickle that was followed, to its end or as far as could be.
struct Followed {
    notes: Notes,
    walk: Walk,
    stuck: Option<Stuck>,
    /// Where it ended.
    at: u64,
}

impl Followed {
    /// All that was found, and why it was not more.
    fn all(mut self, place: Place<'_>) -> Notes {
        match self.stuck {
            None => {}
            Some(Stuck::Read(error)) => self.notes.unread(place, self.at, &error),
            Some(Stuck::Malformed(message)) => malformed(place, self.at, message, &mut self.notes),
            Some(Stuck::Lost(what)) => malformed(place, self.at, what.to_owned(), &mut self.notes),
        }
        self.notes
    }

    /// What a loader would have run, though it may be no pickle: of one on which it fails nothing
    /// behind the last call.
    fn ran(self, place: Place<'_>) -> Notes {
        let fails = self.stuck.as_ref().is_some_and(|stuck| !stuck.is_lost());
        let until = if fails { self.walk.called } else { Some(u64::MAX) };
        let found = if fails { self.notes } else { self.all(place) };
        let mut ran = Notes::default();
        for finding in found.findings {
            // Numbers of globals mean something to programs that gave them out.
            if Some(finding.offset) <= until && finding.reason != EXTENSION_CODE {
                ran.add(finding);
            }
        }
        ran
    }
}

fn malformed(place: Place<'_>, offset: u64, message: String, notes: &mut Notes) {
    notes.add(Finding {
        severity: Verdict::Unreadable,
        reason: "MALFORMED",
        member: place.member.to_owned(),
        global: String::new(),
        offset,
        message,
    });
}

/// Whether the bytes begin as pickles of protocol 2 and later do.
pub fn begins(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Follows a file's pickle, and those behind it, which a loader may load too. Answers whether it
/// is one.
pub fn look(place: Place<'_>, stream: &Stream<'_>, sure: Sure, notes: &mut Notes) -> bool {
    let legacy = stream.head(TORCH_LEGACY.len()).is_ok_and(|head| head == TORCH_LEGACY);
    let most = if legacy { TORCH_LEGACY_PICKLES } else { PICKLES_MAX };
    let mut input = match stream.open() {
        Ok(input) => input,
        Err(error) => {
            notes.unread(place, stream.begin, &error);
            return false;
        }
    };
    let mut counts = false;
    for number in 0..most {
        let begin = input.at();
        let followed = follow(place, &mut *input, stream.meter, true);
        if number > 0 && followed.at == begin {
            break;
        }
        let (walk, ended) = (followed.walk, followed.stuck.is_none());
        let is_sure = sure == Sure::Yes && (number == 0 || legacy);
        let is_one = is_sure || (ended && walk.globals > 0);
        counts |= number == 0 && is_one;
        notes.adopt(if is_one { followed.all(place) } else { followed.ran(place) });
        if walk.arrays > 0 {
            // joblib leaves out the arrays' bytes, `pickle.load` runs them: both ways are followed.
            plainly(place, &Stream { begin, ..*stream }, notes);
        }
        if !ended {
            break;
        }
    }
    counts
}

/// What `pickle.load` runs of joblib's file, until it meets an array's bytes that are no opcodes.
fn plainly(place: Place<'_>, stream: &Stream<'_>, notes: &mut Notes) {
    let Ok(mut input) = stream.open() else { return };
    let mut ran = follow(place, &mut *input, stream.meter, false).ran(place);
    // The pickle of an array's objects has a memo of its own. With that of the whole, words of the
    // data stand where a module's name does, and are imported in vain: most are told by that.
    ran.findings
        .retain(|found| found.reason != globals::UNKNOWN.reason || is_module(&found.global));
    for found in ran.findings {
        notes.add(found);
    }
}

fn is_module(global: &str) -> bool {
    let module = global.rsplit_once('.').map_or("", |(module, _)| module);
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    module.contains('.')
        || (module.chars().all(is_word)
            && module.starts_with(|c: char| c.is_lowercase() || c == '_'))
}

fn follow(place: Place<'_>, input: &mut dyn Input, meter: &Meter, arrays: bool) -> Followed {
    let mut notes = Notes::default();
    let mut machine = Machine::new(place, meter, arrays, 0, &mut notes);
    let stuck = machine.run(input).err();
    let walk = machine.walk;
    Followed { notes, walk, stuck, at: input.at() }
}

/// The stack, the memo, and what was found.
struct Machine<'a> {
    place: Place<'a>,
    meter: &'a Meter,
    /// Arrays' bytes follow their wrappers.
    arrays: bool,
    depth: u32,
    notes: &'a mut Notes,
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    graded: HashMap<(String, String), Grade>,
    /// Elements of tuples that were kept.
    kept: usize,
    walk: Walk,
}

impl<'a> Machine<'a> {
    fn new(
        place: Place<'a>,
        meter: &'a Meter,
        arrays: bool,
        depth: u32,
        notes: &'a mut Notes,
    ) -> Self {
        Self {
            place,
            meter,
            arrays,
            depth,
            notes,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            graded: HashMap::new(),
            kept: 0,
            walk: Walk::default(),
        }
    }

    fn run(&mut self, input: &mut dyn Input) -> Result<(), Stuck> {
        loop {
            self.meter.take_opcodes(1)?;
            let at = input.at();
            let opcode = input.u8()?;
            if opcode == b'.' {
                return self.pop().map(drop);
            }
            let known = self.constant(opcode, input)?
                || self.moves(opcode, input)?
                || self.collects(opcode)?
                || self.calls(opcode, at, input)?;
            if !known {
                return Err(Stuck::Malformed(format!("byte {opcode:#04x} at {at} is no opcode")));
            }
            if self.stack.len() > STACK_MAX || self.marks.len() > STACK_MAX {
                return Err(ReadError::Exhausted("its stack is higher than is followed").into());
            }
        }
    }

    /// Opcodes that push a value of the file.
    fn constant(&mut self, opcode: u8, input: &mut dyn Input) -> Result<bool, Stuck> {
        let value = match opcode {
            b'N' | 0x88 | 0x89 => Value::Plain,
            b'K' => Value::Int(i64::from(input.u8()?)),
            b'M' => Value::Int(i64::from(input.u16()?)),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(input.u32()?.to_le_bytes()))),
            b'I' | b'L' => self.line_number(input)?,
            b'F' => self.line_number(input).map(|_| Value::Plain)?,
            b'G' => skipped(input, 8)?,
            0x8a => {
                let count = input.u8()?;
                long(input, u64::from(count))?
            }
            0x8b => {
                let count = input.u32()?;
                long(input, u64::from(count))?
            }
            // Texts.
            b'S' | b'V' => {
                let line = self.line(input)?;
                let bare = if opcode == b'S' { unquoted(&line)? } else { &line };
                // Escapes may spell what is not to be seen.
                if bare.contains('\\') { Value::Opaque } else { Value::Text(bare.into()) }
            }
            b'U' | 0x8c => {
                let count = input.u8()?;
                text(input, u64::from(count))?
            }
            b'T' | b'X' => {
                let count = input.u32()?;
                text(input, u64::from(count))?
            }
            0x8d => {
                let count = input.u64()?;
                text(input, count)?
            }
            // Bytes.
            b'C' => {
                let count = input.u8()?;
                skipped(input, u64::from(count))?
            }
            b'B' => {
                let count = input.u32()?;
                skipped(input, u64::from(count))?
            }
            0x8e | 0x96 => {
                let count = input.u64()?;
                skipped(input, count)?
            }
            0x97 => Value::Plain,
            b'}' => Value::State(Vec::new()),
            b')' => Value::tuple(Vec::new()),
            b']' | 0x8f => Value::Plain,
            b'P' => self.line(input).map(|_| Value::Opaque)?,
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Opcodes that move what is there, and those without effect.
    fn moves(&mut self, opcode: u8, input: &mut dyn Input) -> Result<bool, Stuck> {
        match opcode {
            0x80 => {
                let protocol = input.u8()?;
                if protocol > 5 {
                    return Err(Stuck::Malformed(format!("protocol {protocol} is not known")));
                }
            }
            0x95 => {
                input.u64()?;
            }
            0x98 => {}
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?.memo();
                self.stack.push(top);
            }
            b'Q' => {
                self.pop()?;
                self.stack.push(Value::Opaque);
            }
            b'q' => {
                let key = u64::from(input.u8()?);
                self.keep(key)?;
            }
            b'r' => {
                let key = u64::from(input.u32()?);
                self.keep(key)?;
            }
            b'p' => {
                let key = self.line_key(input)?;
                self.keep(key)?;
            }
            0x94 => self.keep(self.memo.len() as u64)?,
            b'h' => {
                let key = u64::from(input.u8()?);
                self.get(key)?;
            }
            b'j' => {
                let key = u64::from(input.u32()?);
                self.get(key)?;
            }
            b'g' => {
                let key = self.line_key(input)?;
                self.get(key)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that put values into others.
    fn collects(&mut self, opcode: u8) -> Result<bool, Stuck> {
        match opcode {
            b't' => {
                let of = self.pop_mark()?;
                self.push_tuple(of);
            }
            0x85..=0x87 => {
                let of: Result<Vec<Value>, Stuck> =
                    (0..opcode - 0x84).map(|_| self.pop()).collect();
                let mut of = of?;
                of.reverse();
                self.push_tuple(of);
            }
            b'l' | 0x91 => {
                self.pop_mark()?;
                self.stack.push(Value::Plain);
            }
            b'd' => {
                let mut state = Value::State(Vec::new());
                put_all(&mut state, self.pop_mark()?);
                self.stack.push(state);
            }
            b'a' => {
                self.pop()?;
                self.top()?;
            }
            b'e' | 0x90 => {
                self.pop_mark()?;
                self.top()?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.top()?.put(key, value);
            }
            b'u' => {
                let of = self.pop_mark()?;
                put_all(self.top()?, of);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that name globals, call them, or give objects their state.
    fn calls(&mut self, opcode: u8, at: u64, input: &mut dyn Input) -> Result<bool, Stuck> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line(input)?, self.line(input)?);
                self.name(&module, &name, at)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&module, &name) {
                    (Value::Text(module), Value::Text(name)) => self.name(module, name, at)?,
                    _ if module.may_be_text() && name.may_be_text() => self.computed(at),
                    _ => return Err(Stuck::Malformed("names a global by what is no text".into())),
                }
            }
            b'i' => {
                let (module, name) = (self.line(input)?, self.line(input)?);
                self.pop_mark()?;
                self.name(&module, &name, at)?;
                let callee = self.pop()?;
                self.call(&callee, at)?;
                self.stack.push(Value::Opaque);
            }
            b'o' => {
                let of = self.pop_mark()?;
                let callee = of.first().ok_or_else(underflow)?;
                self.call(callee, at)?;
                self.stack.push(Value::Opaque);
            }
            b'R' | 0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(&callee, at)?;
                self.stack.push(match opcode {
                    b'R' => Value::call(&callee, &arguments),
                    _ => Value::make(&callee, &arguments),
                });
            }
            b'b' => self.build(at, input)?,
            0x82..=0x84 => {
                input.skip([1, 2, 4][usize::from(opcode - 0x82)])?;
                let message = "calls a global by a number that only the loader can tell";
                self.find(Verdict::Unknown, EXTENSION_CODE, "", at, message);
                self.stack.push(Value::Opaque);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn build(&mut self, at: u64, input: &mut dyn Input) -> Result<(), Stuck> {
        let state = self.pop()?;
        let filled = self.top()?.clone();
        self.call(&filled, at)?;
        match filled {
            Value::Global(name) => {
                let message = "is changed itself, for all that use it";
                self.find(Verdict::Suspicious, "CLASS_PATCHED", &name, at, message);
            }
            Value::Dtype(dtype) => dtype.fill(&state),
            Value::ArrayWrapper if self.arrays => {
                self.walk.arrays += 1;
                self.pop()?;
                self.stack.push(Value::Plain);
                self.leave_out(&state, input)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes note that something is called, made or filled; of what never is a loader says so.
    fn call(&mut self, callee: &Value, at: u64) -> Result<(), Stuck> {
        if callee.is_inert() {
            return Err(Stuck::Malformed("calls what can't be called".into()));
        }
        self.walk.called = Some(at);
        Ok(())
    }

    fn push_tuple(&mut self, of: Vec<Value>) {
        self.kept = self.kept.saturating_add(of.len());
        let is_kept = self.kept <= KEPT_MAX;
        self.stack.push(if is_kept { Value::tuple(of) } else { Value::Plain });
    }

    /// The bytes of an array that stand between opcodes.
    fn leave_out(&mut self, state: &Value, input: &mut dyn Input) -> Result<(), Stuck> {
        match raw_of(state) {
            Some(Raw::Bytes { count, padded }) => {
                if padded {
                    let padding = input.u8()?;
                    input.skip(u64::from(padding))?;
                }
                Ok(input.skip(count)?)
            }
            Some(Raw::Pickle) if self.depth < DEPTH_MAX => {
                let mut inner =
                    Machine::new(self.place, self.meter, false, self.depth + 1, self.notes);
                let ended = inner.run(input);
                self.walk.globals += inner.walk.globals;
                self.walk.called = inner.walk.called.or(self.walk.called);
                ended
            }
            Some(Raw::Pickle) => Err(Stuck::Lost("it holds pickles in pickles in pickles")),
            None => Err(Stuck::Lost("an array does not say how large it is")),
        }
    }

    /// A global that is named by two texts.
    fn name(&mut self, module: &str, name: &str, at: u64) -> Result<(), Stuck> {
        self.walk.globals += 1;
        let full = format!("{module}.{name}");
        // How a path is cut into module and name counts.
        let key = (module.to_owned(), name.to_owned());
        let known = self.graded.get(&key).copied();
        let graded = match known {
            Some(graded) => graded,
            None => {
                self.meter.take_opcodes(GRADE_OPCODES)?;
                grade(module, name)
            }
        };
        let Grade { verdict, reason, why } = graded;
        if verdict != Verdict::Clean {
            self.find(verdict, reason, &full, at, why);
        }
        if known.is_none() && self.graded.len() < GRADED_MAX {
            self.graded.insert(key, graded);
        }
        self.stack.push(Value::Global(full.into()));
        Ok(())
    }

    /// A global whose name is put together while the file is loaded.
    fn computed(&mut self, at: u64) {
        let message = "names a global by what is computed while the file is loaded";
        self.find(Verdict::Dangerous, "COMPUTED_GLOBAL", "", at, message);
        self.stack.push(Value::Opaque);
    }

    fn find(&mut self, severity: Verdict, reason: &'static str, global: &str, at: u64, why: &str) {
        let global: String = global.chars().take(200).filter(|c| !c.is_control()).collect();
        let message = if global.is_empty() { why.to_owned() } else { format!("{global} {why}") };
        let member = self.place.member.to_owned();
        self.notes.add(Finding { severity, reason, member, global, offset: at, message });
    }

    /// The value on top, above the last mark.
    fn top(&mut self) -> Result<&mut Value, Stuck> {
        let fence = self.marks.last().copied().unwrap_or_default();
        self.stack[fence..].last_mut().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Result<Value, Stuck> {
        self.top()?;
        self.stack.pop().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Stuck> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn keep(&mut self, key: u64) -> Result<(), Stuck> {
        let top = self.top()?.memo();
        self.memo.insert(key, top);
        if self.memo.len() > MEMO_MAX {
            return Err(ReadError::Exhausted("it remembers more than is followed").into());
        }
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<(), Stuck> {
        let never = || Stuck::Malformed(format!("nothing was remembered as {key}"));
        let value = self.memo.get(&key).map(Value::memo).ok_or_else(never)?;
        self.stack.push(value);
        Ok(())
    }

    /// A line's text, as much as matters.
    fn line(&self, input: &mut dyn Input) -> Result<String, Stuck> {
        let mut line = Vec::new();
        for count in 1_u64.. {
            if count % 64 == 0 {
                self.meter.take_opcodes(1)?;
            }
            match input.u8()? {
                b'\n' => break,
                byte if (line.len() as u64) < TEXT_BYTES_MAX => line.push(byte),
                _ => {}
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    /// A line that says a number, in any of Python's spellings.
    fn line_number(&self, input: &mut dyn Input) -> Result<Value, Stuck> {
        let line = self.line(input)?;
        let is_one =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.' | ' ');
        if line.is_empty() || !line.chars().all(is_one) {
            return Err(Stuck::Malformed("a number is none".into()));
        }
        Ok(line.trim_end_matches('L').parse().map_or(Value::Plain, Value::Int))
    }

    fn line_key(&self, input: &mut dyn Input) -> Result<u64, Stuck> {
        let line = self.line(input)?;
        // As Python's int() reads it, underscores and all; a negative one is refused.
        let digits = line.trim().trim_start_matches('+').replace('_', "");
        let digits = digits.strip_prefix("-0").unwrap_or(&digits);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Stuck::Malformed("a memo's key is no number".into()));
        }
        digits.parse().map_err(|_| Stuck::Lost("a memo's key is larger than is followed"))
    }
}

fn underflow() -> Stuck {
    Stuck::Malformed("takes what is not there".into())
}

/// What stands in quotes.
fn unquoted(line: &str) -> Result<&str, Stuck> {
    let line = line.trim_end();
    let mut quotes = ['\'', '"'].into_iter();
    let bare = quotes.find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote));
    bare.ok_or_else(|| Stuck::Malformed("a text has no quotes".into()))
}

fn put_all(state: &mut Value, of: Vec<Value>) {
    let mut of = of.into_iter();
    while let (Some(key), Some(value)) = (of.next(), of.next()) {
        state.put(key, value);
    }
}

fn skipped(input: &mut dyn Input, count: u64) -> Result<Value, ReadError> {
    input.skip(count)?;
    Ok(Value::Plain)
}

fn text(input: &mut dyn Input, count: u64) -> Result<Value, ReadError> {
    if count > TEXT_BYTES_MAX {
        input.skip(count)?;
        return Ok(Value::Opaque);
    }
    let bytes = input.take(usize::try_from(count).unwrap_or_default())?;
    Ok(std::str::from_utf8(bytes).map_or(Value::Opaque, |text| Value::Text(text.into())))
}

/// An integer of so many bytes, little-endian, signed.
fn long(input: &mut dyn Input, count: u64) -> Result<Value, ReadError> {
    if count > 8 {
        return skipped(input, count);
    }
    let bytes = input.take(usize::try_from(count).unwrap_or_default())?;
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Ok(Value::Int(i64::from_le_bytes(all)))
}
