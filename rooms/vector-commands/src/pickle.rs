//! Plain data out of a pickle: numbers, texts, lists, maps.
//!
//! A pickle is a program. The part of it that builds plain data is followed here, over a table of
//! values and within bounds; whatever names a class, a function or an object of the outside ends
//! it, by name, before anything else is read. Nothing is ever called.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use quarry_client::failure::Failure;
use serde_json::{Map, Number, Value};
use tempfile::NamedTempFile;

use crate::wrong_file;

/// The largest pickle, in bytes.
const BYTES_MAX: u64 = 1 << 30;
/// The most values of one, and of what is made of it.
const VALUES_MAX: usize = 50_000_000;
/// How deep lists and maps may lie in each other.
const DEPTH_MAX: usize = 16;

type Outcome<T> = Result<T, String>;

/// A value by its place in the table: a list that was put aside and one on the stack are the same.
type Place = usize;

#[derive(Debug, Clone)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Place>),
    Map(Vec<(Place, Place)>),
}

/// Writes a pickled list of rows, or map of the row numbers to rows, as lines of JSON.
///
/// # Errors
/// A pickle that is more than plain data, by the name of what it asks for; one that is cut short,
/// too large or no list of rows.
pub fn as_lines(path: &Path) -> Result<NamedTempFile, Failure> {
    let wrong = |why: String| {
        wrong_file(
            path,
            format!(
                "{why}; only lists and maps of numbers and texts are read of a pickle, since reading more runs what it says"
            ),
        )
    };
    let io = |error: std::io::Error| wrong_file(path, error);
    let file = File::open(path).map_err(|error| {
        Failure::from(service_error::ServiceError::not_found(
            "file",
            format!("{}: {error}", path.display()),
        ))
    })?;
    let length = file.metadata().map_err(io)?.len();
    if length > BYTES_MAX {
        return Err(wrong(format!("{length} bytes; at most {BYTES_MAX}")));
    }
    let mut machine = Machine::new(BufReader::new(file), length);
    let top = machine.run().map_err(wrong)?;
    let rows = machine.rows(top).map_err(wrong)?;
    let lines = tempfile::Builder::new().suffix(".jsonl").tempfile().map_err(io)?;
    let mut out = BufWriter::new(lines.as_file());
    for (at, row) in rows.into_iter().enumerate() {
        let row = machine.json(row, 0).map_err(|why| wrong(format!("row {at}: {why}")))?;
        if !row.is_object() {
            return Err(wrong(format!("row {at} is no map")));
        }
        writeln!(out, "{row}").map_err(io)?;
    }
    out.flush().map_err(io)?;
    drop(out);
    Ok(lines)
}

struct Machine<R> {
    from: R,
    /// Bytes that are left: no length is believed beyond them.
    left: u64,
    nodes: Vec<Node>,
    stack: Vec<Place>,
    marks: Vec<usize>,
    memo: HashMap<u64, Place>,
    /// Values written out, each time that they are.
    written: usize,
}

impl<R: Read> Machine<R> {
    fn new(from: R, left: u64) -> Self {
        Self {
            from,
            left,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            written: 0,
        }
    }

    fn bytes(&mut self, count: u64) -> Outcome<Vec<u8>> {
        if count > self.left {
            return Err("it ends in the middle".to_owned());
        }
        self.left -= count;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| "it is too large")?];
        self.from.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| "it ends in the middle".to_owned())
    }

    fn line(&mut self) -> Outcome<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.array::<1>()? {
                [b'\n'] => return Ok(line),
                [byte] => line.push(byte),
            }
        }
    }

    fn text_line(&mut self) -> Outcome<String> {
        String::from_utf8(self.line()?).map_err(|_| "a line is no text".to_owned())
    }

    fn text(&mut self, length: u64) -> Outcome<()> {
        let text = String::from_utf8(self.bytes(length)?);
        self.push(Node::Text(text.map_err(|_| "a text is no UTF-8")?))
    }

    fn push(&mut self, node: Node) -> Outcome<()> {
        if self.nodes.len() >= VALUES_MAX {
            return Err(format!("it has more than {VALUES_MAX} values"));
        }
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Outcome<Place> {
        self.stack.pop().ok_or_else(|| "it takes what is not there".to_owned())
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Outcome<Vec<Place>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("it has no mark")?))
    }

    fn top(&self) -> Outcome<Place> {
        self.stack.last().copied().ok_or_else(|| "it takes what is not there".to_owned())
    }

    fn append(&mut self, added: Vec<Place>) -> Outcome<()> {
        let list = self.top()?;
        match &mut self.nodes[list] {
            Node::List(list) => list.extend(added),
            _ => return Err("it appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, added: &[Place]) -> Outcome<()> {
        let map = self.top()?;
        let Node::Map(map) = &mut self.nodes[map] else {
            return Err("it sets what is no map".to_owned());
        };
        let (pairs, rest) = added.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key has no value".to_owned());
        }
        map.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    /// Follows it to its end; the one value that it leaves.
    fn run(&mut self) -> Outcome<Place> {
        loop {
            let [code] = self.array()?;
            if code == b'.' {
                return self.pop();
            }
            if !(self.scalar(code)? || self.container(code)? || self.shelf(code)?) {
                return Err(self.refused(code));
            }
        }
    }

    /// Numbers and texts.
    fn scalar(&mut self, code: u8) -> Outcome<bool> {
        match code {
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(number.into()))?;
            }
            b'K' => {
                let [number] = self.array()?;
                self.push(Node::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(number.into()))?;
            }
            b'I' | b'L' => {
                let line = self.text_line()?;
                let node = match (code, line.as_str()) {
                    (b'I', "00") => Node::Bool(false),
                    (b'I', "01") => Node::Bool(true),
                    (_, number) => Node::Int(whole(number.trim_end_matches('L'))?),
                };
                self.push(node)?;
            }
            0x8a => {
                let [length] = self.array()?;
                let number = long(&self.bytes(length.into())?)?;
                self.push(Node::Int(number))?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(number))?;
            }
            b'F' => {
                let line = self.text_line()?;
                let number = line.parse().map_err(|_| format!("{line:?} is no number"))?;
                self.push(Node::Float(number))?;
            }
            b'V' => {
                let text = unescaped(&self.line()?)?;
                self.push(Node::Text(text))?;
            }
            b'U' | 0x8c => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            b'T' | b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Lists, tuples and maps.
    fn container(&mut self, code: u8) -> Outcome<bool> {
        match code {
            b'(' => self.marks.push(self.stack.len()),
            b']' | b')' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Map(Vec::new()))?,
            b'l' | b't' => {
                let list = self.marked()?;
                self.push(Node::List(list))?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84));
                let list = self.stack.split_off(from.ok_or("it takes what is not there")?);
                self.push(Node::List(list))?;
            }
            b'a' => {
                let one = self.pop()?;
                self.append(vec![one])?;
            }
            b'e' => {
                let added = self.marked()?;
                self.append(added)?;
            }
            b'd' => {
                let added = self.marked()?;
                self.push(Node::Map(Vec::new()))?;
                self.set(&added)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let added = self.marked()?;
                self.set(&added)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is put aside and taken again, and what only frames the rest.
    fn shelf(&mut self, code: u8) -> Outcome<bool> {
        let key = match code {
            0x80 => return self.array::<1>().map(|_| true),
            0x95 => return self.array::<8>().map(|_| true),
            b'0' => return self.pop().map(|_| true),
            b'1' => return self.marked().map(|_| true),
            b'2' => {
                self.stack.push(self.top()?);
                return Ok(true);
            }
            0x94 => self.memo.len() as u64,
            b'g' | b'p' => {
                let line = self.text_line()?;
                line.parse().map_err(|_| format!("{line:?} is no number"))?
            }
            b'h' | b'q' => self.array::<1>()?[0].into(),
            b'j' | b'r' => u32::from_le_bytes(self.array()?).into(),
            _ => return Ok(false),
        };
        if matches!(code, b'g' | b'h' | b'j') {
            let place = self.memo.get(&key).copied();
            self.stack.push(place.ok_or("it takes what was not put aside")?);
        } else {
            let place = self.top()?;
            self.memo.insert(key, place);
        }
        if self.stack.len() > VALUES_MAX || self.memo.len() > VALUES_MAX {
            return Err(format!("it has more than {VALUES_MAX} values"));
        }
        Ok(true)
    }

    /// What it asks for that is not plain data.
    fn refused(&mut self, code: u8) -> String {
        let last = |back: usize| match self.stack.len().checked_sub(back) {
            Some(at) => match &self.nodes[self.stack[at]] {
                Node::Text(text) => text.chars().take(100).collect(),
                _ => String::new(),
            },
            None => String::new(),
        };
        match code {
            b'c' | b'i' => {
                let (module, name) = (self.text_line(), self.text_line());
                let (module, name) = (module.unwrap_or_default(), name.unwrap_or_default());
                format!("it names {module:.100} {name:.100}")
            }
            0x93 => {
                let (module, name): (String, String) = (last(2), last(1));
                format!("it names {module} {name}")
            }
            b'B' | b'C' | 0x8e | 0x96 => "it holds bytes".to_owned(),
            0x8f..=0x91 => "it holds a set".to_owned(),
            b'P' | b'Q' => "it names an object of its surroundings".to_owned(),
            b'R' | b'b' | b'o' | 0x81..=0x84 | 0x92 => "it makes an object".to_owned(),
            code => format!("the code {code:#04x} of it is not known"),
        }
    }

    /// The places of the rows.
    fn rows(&self, top: Place) -> Outcome<Vec<Place>> {
        match &self.nodes[top] {
            Node::List(rows) => Ok(rows.clone()),
            Node::Map(pairs) => {
                let mut rows = vec![None; pairs.len()];
                for (key, row) in pairs {
                    let at = match &self.nodes[*key] {
                        Node::Int(at) => usize::try_from(*at).ok(),
                        Node::Text(text) => text.parse().ok(),
                        _ => None,
                    };
                    let slot = at.and_then(|at| rows.get_mut(at));
                    *slot.ok_or("its keys are not the numbers of its rows, from 0")? = Some(*row);
                }
                let rows: Option<Vec<Place>> = rows.into_iter().collect();
                rows.ok_or_else(|| "a row's number is there twice".to_owned())
            }
            _ => Err("it is no list of rows".to_owned()),
        }
    }

    /// A value written out. One that holds itself, or others again and again, meets the bounds.
    fn json(&mut self, place: Place, depth: usize) -> Outcome<Value> {
        self.written += 1;
        if depth > DEPTH_MAX || self.written > VALUES_MAX {
            return Err(format!(
                "it lies deeper than {DEPTH_MAX}, or has more than {VALUES_MAX} values"
            ));
        }
        Ok(match self.nodes[place].clone() {
            Node::None => Value::Null,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(number) => Value::Number(number.into()),
            Node::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            Node::Text(text) => Value::String(text),
            Node::List(list) => {
                let list = list.into_iter().map(|one| self.json(one, depth + 1));
                Value::Array(list.collect::<Outcome<_>>()?)
            }
            Node::Map(pairs) => {
                let mut map = Map::new();
                for (key, value) in pairs {
                    let key = match &self.nodes[key] {
                        Node::Text(text) => text.clone(),
                        Node::Int(number) => number.to_string(),
                        _ => return Err("a key is no text".to_owned()),
                    };
                    map.insert(key, self.json(value, depth + 1)?);
                }
                Value::Object(map)
            }
        })
    }
}

fn whole(text: &str) -> Outcome<i64> {
    text.parse().map_err(|_| format!("{text:.30} is no whole number of 64 bits"))
}

/// A whole number of any length, the lowest byte first.
fn long(bytes: &[u8]) -> Outcome<i64> {
    let filler = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
    let mut whole = [filler; 8];
    if bytes.len() > whole.len() {
        return Err("a number is too large for 64 bits".to_owned());
    }
    whole[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(whole))
}

/// Latin-1 with `\uXXXX` and `\UXXXXXXXX`, as the oldest protocol writes texts.
fn unescaped(line: &[u8]) -> Outcome<String> {
    let mut text = String::new();
    let mut at = 0;
    while at < line.len() {
        let digits = match line.get(at..at + 2) {
            Some(b"\\u") => 4,
            Some(b"\\U") => 8,
            _ => {
                text.push(char::from(line[at]));
                at += 1;
                continue;
            }
        };
        let hex = line.get(at + 2..at + 2 + digits).and_then(|hex| str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        text.push(code.ok_or("an escape in a text is none")?);
        at += 2 + digits;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let file = NamedTempFile::with_suffix(".pkl").unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let lines = as_lines(file.path()).map_err(|failure| format!("{failure:?}"))?;
        Ok(std::fs::read_to_string(lines.path()).unwrap())
    }

    /// What Python 3 writes of `[{"a": 1, "b": [True, None, 0.5, -3], "c": "é"}]`.
    #[test]
    fn plain_data_of_every_protocol_is_read() {
        let expected = "{\"a\":1,\"b\":[true,null,0.5,-3],\"c\":\"é\"}\n";
        let zero =
            b"(lp0\n(dp1\nVa\np2\nI1\nsVb\np3\n(lp4\nI01\naNaF0.5\naI-3\nasVc\np5\nV\xe9\np6\nsa.";
        let two = b"\x80\x02]q\x00}q\x01(X\x01\x00\x00\x00aq\x02K\x01X\x01\x00\x00\x00bq\x03]q\x04(\x88NG?\xe0\x00\x00\x00\x00\x00\x00J\xfd\xff\xff\xffeX\x01\x00\x00\x00cq\x05X\x02\x00\x00\x00\xc3\xa9q\x06ua.";
        let five = b"\x80\x05\x95\x2f\x00\x00\x00\x00\x00\x00\x00]\x94}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(\x88NG?\xe0\x00\x00\x00\x00\x00\x00J\xfd\xff\xff\xffe\x8c\x01c\x94\x8c\x02\xc3\xa9\x94ua.";
        for bytes in [&zero[..], two, five] {
            assert_eq!(read(bytes).unwrap(), expected);
        }
        // A map of row numbers, in any order; a number of many bytes.
        let map = b"\x80\x02}(K\x01}X\x01\x00\x00\x00a\x8a\x02\x00\xffsK\x00}u.";
        assert_eq!(read(map).unwrap(), "{}\n{\"a\":-256}\n");
    }

    #[test]
    fn what_would_run_or_mislead_is_refused_by_name() {
        for (bytes, why) in [
            (&b"cos\nsystem\n(S'true'\ntR."[..], "names os system"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "names posix system"),
            (b"(ios\nsystem\n.", "names os system"),
            (b"]C\x01xa.", "bytes"),
            (b"]\x8fa.", "set"),
            (b"]Px\na.", "surroundings"),
            (b"]]R.", "object"),
            (b"\xf0.", "0xf0"),
            (b"]K\x01a.", "no map"),
            (b"K\x01.", "no list"),
            (b"}(K\x05}u.", "numbers of its rows"),
            (b"X\xff\xff\xff\xff", "ends in the middle"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", "ends in the middle"),
            (b"e.", "mark"),
            (b"a.", "not there"),
            (b"h\x07.", "put aside"),
            (b"", "ends in the middle"),
            // A list that holds itself.
            (b"]q\x00h\x00a]h\x00a.", "deeper"),
            (b"]}(K\x01\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00ua.", "64 bits"),
        ] {
            let refused = read(bytes).unwrap_err();
            assert!(refused.contains(why), "{bytes:?}: {refused}");
        }
    }
}
