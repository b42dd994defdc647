//! A pickle's opcodes, followed on a stack of our own. Nothing that they name is
//! imported, made or called.

use std::collections::HashMap;

use super::globals::{Grade, grade};
use super::inflate::Stream;
use super::joblib::{Raw, raw_of};
use super::value::Value;
use super::{Finding, Notes, Place, Verdict};
use crate::source::{Input, Meter, Numbers, ReadError};

/// Bytes of a text that is kept: longer ones name no module.
const TEXT_BYTES_MAX: u64 = 512;
const STACK_MAX: usize = 1 << 20;
const MEMO_MAX: usize = 2 << 20;
/// What judging a global costs, and how many judgements are kept.
const GRADE_OPCODES: u64 = 64;
const GRADED_MAX: usize = 4_096;
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
    /// It may be one by chance: it counts if it ends as one, or is dangerous.
    No,
}

/// What following a pickle came to.
#[derive(Debug, Default)]
struct Walk {
    globals: u64,
    arrays: u64,
}

/// Why a pickle could not be followed.
enum Stuck {
    Read(ReadError),
    Malformed(String),
}

impl From<ReadError> for Stuck {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Whether the bytes begin as pickles of protocol 2 and later do.
pub fn begins(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Follows a file's pickle, and those behind it. Answers whether it is one.
pub fn look(place: Place<'_>, stream: &Stream<'_>, sure: Sure, notes: &mut Notes) -> bool {
    let legacy = stream.head(TORCH_LEGACY.len()).is_ok_and(|head| head == TORCH_LEGACY);
    let mut input = match stream.open() {
        Ok(input) => input,
        Err(error) => {
            notes.unread(place, stream.begin, &error);
            return false;
        }
    };
    let mut found = Notes::default();
    let first = follow(place, &mut *input, stream.meter, true, &mut found);
    let ended = first.is_ok();
    let (globals, arrays) = first.as_ref().map_or((0, 1), |walk| (walk.globals, walk.arrays));
    if let Err(stuck) = first {
        say_stuck(place, input.at(), stuck, &mut found);
    }
    if arrays > 0 {
        // joblib leaves out the arrays' bytes, `pickle.load` runs them: both ways
        // are followed. By chance nothing dangerous is spelled there.
        let mut plain = Notes::default();
        if let Ok(mut again) = stream.open() {
            let _ = follow(place, &mut *again, stream.meter, false, &mut plain);
        }
        found.adopt(plain, Verdict::Dangerous);
    }
    if ended {
        let most = if legacy { TORCH_LEGACY_PICKLES } else { PICKLES_MAX };
        follow_rest(place, &mut *input, stream.meter, most - 1, &mut found);
    }
    let counts = sure == Sure::Yes || (ended && globals > 0);
    notes.adopt(found, if counts { Verdict::Clean } else { Verdict::Dangerous });
    counts
}

/// Pickles behind the first, which a loader may load too. Raw bytes may look
/// like one.
fn follow_rest(
    place: Place<'_>,
    input: &mut dyn Input,
    meter: &Meter,
    most: usize,
    found: &mut Notes,
) {
    for _ in 0..most {
        let at = input.at();
        if !input.take(2).is_ok_and(begins) {
            return;
        }
        let mut next = Notes::default();
        let walk = follow(place, input, meter, true, &mut next);
        for finding in &mut next.findings {
            finding.offset = finding.offset.max(at);
        }
        let least = if walk.is_ok() { Verdict::Clean } else { Verdict::Dangerous };
        found.adopt(next, least);
        if walk.is_err() {
            return;
        }
    }
}

fn say_stuck(place: Place<'_>, offset: u64, stuck: Stuck, notes: &mut Notes) {
    match stuck {
        Stuck::Read(error) => notes.unread(place, offset, &error),
        Stuck::Malformed(message) => notes.add(Finding {
            severity: Verdict::Unreadable,
            reason: "MALFORMED",
            member: place.member.to_owned(),
            global: String::new(),
            offset,
            message,
        }),
    }
}

fn follow(
    place: Place<'_>,
    input: &mut dyn Input,
    meter: &Meter,
    arrays: bool,
    notes: &mut Notes,
) -> Result<Walk, Stuck> {
    let mut machine = Machine::new(place, meter, arrays, 0, notes);
    machine.run(input)?;
    Ok(machine.walk)
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
            walk: Walk::default(),
        }
    }

    fn run(&mut self, input: &mut dyn Input) -> Result<(), Stuck> {
        loop {
            self.meter.take_opcodes(1)?;
            let at = input.at();
            let opcode = input.u8()?;
            if opcode == b'.' {
                return Ok(());
            }
            let known = self.constant(opcode, input)?
                || self.moves(opcode, input)?
                || self.collects(opcode)
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
            b'N' | 0x88 | 0x89 => Value::Opaque,
            b'K' => Value::Int(i64::from(input.u8()?)),
            b'M' => Value::Int(i64::from(input.u16()?)),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(input.u32()?.to_le_bytes()))),
            b'I' | b'L' => self.line_number(input)?,
            b'F' => self.line(input).map(|_| Value::Opaque)?,
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
                let bare = if opcode == b'S' { line.trim_matches(['\'', '"']) } else { &line };
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
            0x97 => Value::Opaque,
            b'}' => Value::State(Vec::new()),
            b')' => Value::tuple(Vec::new()),
            b']' | 0x8f => Value::Opaque,
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
                    self.pop();
                }
            }
            b'1' => drop(self.pop_mark()),
            b'2' => {
                let top = self.stack.last().map_or(Value::Opaque, Value::memo);
                self.stack.push(top);
            }
            b'Q' => {
                self.pop();
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
                self.get(key);
            }
            b'j' => {
                let key = u64::from(input.u32()?);
                self.get(key);
            }
            b'g' => {
                let key = self.line_key(input)?;
                self.get(key);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that put values into others.
    fn collects(&mut self, opcode: u8) -> bool {
        match opcode {
            b't' => {
                let of = self.pop_mark();
                self.stack.push(Value::tuple(of));
            }
            0x85..=0x87 => {
                let mut of: Vec<Value> = (0..opcode - 0x84).map(|_| self.pop()).collect();
                of.reverse();
                self.stack.push(Value::tuple(of));
            }
            b'l' | 0x91 => {
                self.pop_mark();
                self.stack.push(Value::Opaque);
            }
            b'd' => {
                let mut state = Value::State(Vec::new());
                put_all(&mut state, self.pop_mark());
                self.stack.push(state);
            }
            b'a' => drop(self.pop()),
            b'e' | 0x90 => drop(self.pop_mark()),
            b's' => {
                let value = self.pop();
                let key = self.pop();
                if let Some(top) = self.stack.last_mut() {
                    top.put(key, value);
                }
            }
            b'u' => {
                let of = self.pop_mark();
                if let Some(top) = self.stack.last_mut() {
                    put_all(top, of);
                }
            }
            _ => return false,
        }
        true
    }

    /// Opcodes that name globals, call them, or give objects their state.
    fn calls(&mut self, opcode: u8, at: u64, input: &mut dyn Input) -> Result<bool, Stuck> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line(input)?, self.line(input)?);
                self.name(&module, &name, at)?;
            }
            0x93 => {
                let (name, module) = (self.pop(), self.pop());
                match (module, name) {
                    (Value::Text(module), Value::Text(name)) => self.name(&module, &name, at)?,
                    _ => self.computed(at),
                }
            }
            b'i' => {
                let (module, name) = (self.line(input)?, self.line(input)?);
                self.pop_mark();
                self.name(&module, &name, at)?;
                self.pop();
                self.stack.push(Value::Opaque);
            }
            b'o' => {
                self.pop_mark();
                self.stack.push(Value::Opaque);
            }
            b'R' | 0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.pop();
                }
                let (arguments, callee) = (self.pop(), self.pop());
                self.stack.push(Value::call(&callee, &arguments));
            }
            b'b' => self.build(at, input)?,
            0x82..=0x84 => {
                input.skip([1, 2, 4][usize::from(opcode - 0x82)])?;
                let message = "calls a global by a number that only the loader can tell";
                self.find(Verdict::Unknown, "EXTENSION_CODE", "", at, message);
                self.stack.push(Value::Opaque);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn build(&mut self, at: u64, input: &mut dyn Input) -> Result<(), Stuck> {
        let state = self.pop();
        match self.stack.last() {
            Some(Value::Global(name)) => {
                let (name, message) = (name.to_string(), "is changed itself, for all that use it");
                self.find(Verdict::Suspicious, "CLASS_PATCHED", &name, at, message);
            }
            Some(Value::Dtype(dtype)) => dtype.fill(&state),
            Some(Value::ArrayWrapper) if self.arrays => {
                self.walk.arrays += 1;
                self.stack.pop();
                self.stack.push(Value::Opaque);
                self.leave_out(&state, input)?;
            }
            _ => {}
        }
        Ok(())
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
                inner.run(input)?;
                self.walk.globals += inner.walk.globals;
                Ok(())
            }
            Some(Raw::Pickle) => {
                Err(Stuck::Malformed("it holds pickles in pickles in pickles".to_owned()))
            }
            None => Err(Stuck::Malformed("an array does not say how large it is".to_owned())),
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

    /// The value on top; anything where there is none: what follows is told all
    /// the same.
    fn pop(&mut self) -> Value {
        let fence = self.marks.last().copied().unwrap_or_default();
        if self.stack.len() > fence {
            self.stack.pop().unwrap_or(Value::Opaque)
        } else {
            Value::Opaque
        }
    }

    fn pop_mark(&mut self) -> Vec<Value> {
        let mark = self.marks.pop().unwrap_or_default().min(self.stack.len());
        self.stack.split_off(mark)
    }

    fn keep(&mut self, key: u64) -> Result<(), Stuck> {
        let top = self.stack.last().map_or(Value::Opaque, Value::memo);
        self.memo.insert(key, top);
        if self.memo.len() > MEMO_MAX {
            return Err(ReadError::Exhausted("it remembers more than is followed").into());
        }
        Ok(())
    }

    fn get(&mut self, key: u64) {
        let value = self.memo.get(&key).map_or(Value::Opaque, Value::memo);
        self.stack.push(value);
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

    fn line_number(&self, input: &mut dyn Input) -> Result<Value, Stuck> {
        let line = self.line(input)?;
        Ok(line.trim_end_matches('L').parse().map_or(Value::Opaque, Value::Int))
    }

    fn line_key(&self, input: &mut dyn Input) -> Result<u64, Stuck> {
        let line = self.line(input)?;
        line.trim().parse().map_err(|_| Stuck::Malformed("a memo's key is no number".to_owned()))
    }
}

fn put_all(state: &mut Value, of: Vec<Value>) {
    let mut of = of.into_iter();
    while let (Some(key), Some(value)) = (of.next(), of.next()) {
        state.put(key, value);
    }
}

fn skipped(input: &mut dyn Input, count: u64) -> Result<Value, ReadError> {
    input.skip(count)?;
    Ok(Value::Opaque)
}

fn text(input: &mut dyn Input, count: u64) -> Result<Value, ReadError> {
    if count > TEXT_BYTES_MAX {
        return skipped(input, count);
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
