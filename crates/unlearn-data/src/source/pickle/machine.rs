//! The stack machine of Python's `pickle`, without the instructions that do anything.

use std::collections::BTreeMap;
use std::ops::Range;

use super::MAX_DEPTH;

/// What instructions leave on the stack. Calls and state are kept as data and never carried out.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A byte string longer than [`WORD`], as a place in the file.
    Bytes(Range<usize>),
    /// A short string.
    Word(String),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// `module name`.
    Global(String),
    /// Function and arguments.
    Call(Box<Value>, Box<Value>),
    /// Object and the state it would be given.
    Built(Box<Value>, Box<Value>),
}

/// Strings up to this length are kept as text where they are UTF-8 (names and keys).
const WORD: usize = 64;

/// NumPy's names for "an array follows", in NumPy 1 and 2.
const GLOBALS: [&str; 4] = [
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
];

impl Value {
    /// The bytes of a string.
    pub(super) fn text<'a>(&'a self, file: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Word(word) => Some(word.as_bytes()),
            Self::Bytes(range) => file.get(range.clone()),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(items) | Self::Tuple(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Dict(items) => 1 + items.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Self::Call(a, b) | Self::Built(a, b) => 1 + a.depth().max(b.depth()),
            _ => 0,
        }
    }

    /// Values that may be used again by number. Containers may not: a few of them, each holding
    /// the last one ten times, would fill any memory.
    fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Bytes(_) | Self::Word(_) | Self::Global(_)
        )
    }
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    memo_len: u32,
    budget: usize,
}

type Outcome<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// Runs the program in `bytes`, which must end where its result is given back and may make
    /// at most `budget` values, marks and memos.
    pub(super) fn run(bytes: &'a [u8], budget: usize) -> Outcome<Value> {
        let (stack, marks, memo) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut machine = Self { bytes, at: 0, stack, marks, memo, memo_len: 0, budget };
        loop {
            let start = machine.at;
            let code = machine.byte()?;
            if code == b'.' {
                return machine.finish();
            }
            machine.step(code).map_err(|what| match what {
                Fault::Ended => machine.ended(),
                Fault::Unknown => {
                    format!("byte {start}: pickle instruction 0x{code:02x}, which no batch needs")
                }
                Fault::Shape(what) => format!("byte {start}: {what}"),
            })?;
        }
    }

    fn finish(mut self) -> Outcome<Value> {
        let result = self.stack.pop();
        match result {
            Some(value) if self.stack.is_empty() && self.marks.is_empty() && self.at == self.bytes.len() => {
                Ok(value)
            }
            _ => Err(format!("byte {}: something left over after the end of the pickle", self.at)),
        }
    }

    fn ended(&self) -> String {
        format!("a pickle that is cut at byte {}", self.bytes.len())
    }

    fn byte(&mut self) -> Outcome<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.ended())?;
        self.at += 1;
        Ok(byte)
    }

    fn step(&mut self, code: u8) -> Result<(), Fault> {
        match code {
            // Protocol number, frame length: of no meaning here.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => {
                self.spend()?;
                self.marks.push(self.stack.len());
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' => {
                let value = match self.line()? {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    line => Value::Int(line.parse().map_err(|_| Fault::shape("a number that is none"))?),
                };
                self.push(value)?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            // Strings by the width of their length: 1, 4 or 8 bytes.
            b'U' | b'C' | 0x8c => self.string(1)?,
            b'T' | b'B' | b'X' => self.string(4)?,
            0x8e | 0x8d | 0x96 => self.string(8)?,
            b'c' => {
                let global = format!("{} {}", self.line()?, self.line()?);
                self.global(global)?;
            }
            0x93 => {
                let (Value::Word(name), Value::Word(module)) = (self.pop()?, self.pop()?) else {
                    return Err(Fault::shape("a global without a name"));
                };
                self.global(format!("{module} {name}"))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let from = self.stack.len().checked_sub(count).ok_or(Fault::underflow())?;
                self.check_floor(from)?;
                let items = self.stack.split_off(from);
                self.push_deep(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push_deep(Value::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push_deep(Value::List(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                let entries = pairs(items)?;
                self.push_deep(Value::Dict(entries))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                let entries = pairs(items)?;
                self.insert(entries)?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                if !matches!(function, Value::Global(_)) {
                    return Err(Fault::shape("a call of something that is no name"));
                }
                let call = Self::call(function, arguments)?;
                self.push_deep(call)?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.pop()?);
                self.push_deep(Value::Built(Box::new(object), Box::new(state)))?;
            }
            b'p' => {
                let id = self.line()?.parse().map_err(|_| Fault::shape("a memo number that is none"))?;
                self.memoize(id)?;
            }
            b'q' => {
                let [id] = self.array()?;
                self.memoize(id.into())?;
            }
            b'r' => {
                let id = u32::from_le_bytes(self.array()?);
                self.memoize(id)?;
            }
            0x94 => self.memoize(self.memo_len)?,
            b'g' => {
                let id = self.line()?.parse().map_err(|_| Fault::shape("a memo number that is none"))?;
                self.recall(id)?;
            }
            b'h' => {
                let [id] = self.array()?;
                self.recall(id.into())?;
            }
            b'j' => {
                let id = u32::from_le_bytes(self.array()?);
                self.recall(id)?;
            }
            _ => return Err(Fault::Unknown),
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(len).ok_or(Fault::Ended)?;
        let taken = self.bytes.get(self.at..end).ok_or(Fault::Ended)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Ended)
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take(256).position(|&b| b == b'\n').ok_or(Fault::Ended)?;
        let line = self.take(len)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| Fault::shape("a line that is not text"))
    }

    fn string(&mut self, width: usize) -> Result<(), Fault> {
        let mut length = [0; 8];
        length[..width].copy_from_slice(self.take(width)?);
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| Fault::Ended)?;
        let start = self.at;
        let content = self.take(length)?;
        let word = if length <= WORD { std::str::from_utf8(content).ok() } else { None };
        self.push(match word {
            Some(word) => Value::Word(word.to_owned()),
            None => Value::Bytes(start..start + length),
        })
    }

    fn global(&mut self, global: String) -> Result<(), Fault> {
        if GLOBALS.contains(&global.as_str()) || global == "_codecs encode" {
            self.push(Value::Global(global))?;
            return Ok(());
        }
        let shown: String = global.escape_debug().take(60).collect();
        Err(Fault::Shape(format!("the name `{shown}`, which no batch needs (nothing was run)")))
    }

    /// A call as data; only Python 3's way of writing byte strings in protocol 2 is undone where
    /// it is a plain word.
    fn call(function: Value, arguments: Value) -> Result<Value, Fault> {
        if !matches!(&function, Value::Global(name) if name == "_codecs encode") {
            return Ok(Value::Call(Box::new(function), Box::new(arguments)));
        }
        match arguments {
            Value::Tuple(mut items) if items.len() == 2 => match items.swap_remove(0) {
                Value::Word(word) if word.is_ascii() => Ok(Value::Word(word)),
                _ => Err(Fault::shape("bytes written as text; save the pickle with protocol 3 or later")),
            },
            _ => Err(Fault::shape("an encoding without arguments")),
        }
    }

    /// The stack may be emptied down to the last mark and no further.
    fn check_floor(&self, from: usize) -> Result<(), Fault> {
        match self.marks.last() {
            Some(&mark) if from < mark => Err(Fault::underflow()),
            _ => Ok(()),
        }
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        self.check_floor(self.stack.len().checked_sub(1).ok_or(Fault::underflow())?)?;
        self.stack.pop().ok_or(Fault::underflow())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::underflow())?;
        Ok(self.stack.split_off(mark))
    }

    fn push_deep(&mut self, value: Value) -> Result<(), Fault> {
        if value.depth() > MAX_DEPTH {
            return Err(Fault::Shape(format!("more than {MAX_DEPTH} levels of nesting")));
        }
        self.push(value)
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.spend()?;
        self.stack.push(value);
        Ok(())
    }

    /// A value takes 40 bytes of memory, a memo some more, and each can be made by one byte of program.
    fn spend(&mut self) -> Result<(), Fault> {
        self.budget = self.budget.checked_sub(1).ok_or(Fault::shape("more values than any batch has"))?;
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Fault> {
        if items.iter().any(|item| item.depth() >= MAX_DEPTH) {
            return Err(Fault::Shape(format!("more than {MAX_DEPTH} levels of nesting")));
        }
        match self.stack.last_mut() {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(Fault::shape("an entry without a list")),
        }
    }

    fn insert(&mut self, entries: Vec<(Value, Value)>) -> Result<(), Fault> {
        if entries.iter().any(|(key, value)| !key.is_plain() || value.depth() >= MAX_DEPTH) {
            return Err(Fault::Shape(format!(
                "a key that is no word, or more than {MAX_DEPTH} levels of nesting"
            )));
        }
        match self.stack.last_mut() {
            Some(Value::Dict(dict)) => {
                dict.extend(entries);
                Ok(())
            }
            _ => Err(Fault::shape("an entry without a dictionary")),
        }
    }

    fn memoize(&mut self, id: u32) -> Result<(), Fault> {
        self.spend()?;
        self.memo_len = self.memo_len.saturating_add(1);
        match self.stack.last() {
            Some(value) if value.is_plain() => drop(self.memo.insert(id, value.clone())),
            Some(_) => drop(self.memo.remove(&id)),
            None => return Err(Fault::underflow()),
        }
        Ok(())
    }

    fn recall(&mut self, id: u32) -> Result<(), Fault> {
        match self.memo.get(&id) {
            Some(value) => self.push(value.clone())?,
            None => return Err(Fault::shape("a second use of something that may be used once")),
        }
        Ok(())
    }
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>, Fault> {
    if items.len() % 2 == 1 {
        return Err(Fault::shape("a dictionary with a key that has no value"));
    }
    let mut items = items.into_iter();
    Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
}

/// Why a step failed; the byte is added by [`Machine::run`].
enum Fault {
    Ended,
    Unknown,
    Shape(String),
}

impl Fault {
    fn shape(what: &str) -> Self {
        Self::Shape(what.into())
    }

    fn underflow() -> Self {
        Self::shape("an instruction without its operands")
    }
}
