//! A reader of Python's pickle format that builds values of a few kinds, and nothing else.
//!
//! A pickle is a program for a stack machine, whose instructions may call any function of Python. This machine has no functions: a
//! name is looked up in a fixed list, and a call of something on the list makes a value. A name that is not on the list is an
//! error. (The format is documented in CPython's `Lib/pickletools.py`.)
//!
//! Values refer to each other by number, so a value that contains itself, or is nested deeply, does no harm. Their number and
//! size are bounded by the length of the pickle.

use std::collections::HashMap;
use std::io::BufRead;

use neocog_base::memory::try_vec;
use neocog_tensor::{Error, Result};

use super::element::ElementType;

/// The number of a value in a [`Pickle`].
pub(super) type Id = usize;

/// A value. Lists, tuples and sets are sequences.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `None`, a truth value, or something else whose value does not matter.
    Other,
    Int(i128),
    Float(f64),
    Text(String),
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    /// The elements of tensors, by the reference that the file gives.
    Storage(Storage),
    Tensor(StridedTensor),
}

/// A name that pickles of tensors contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV3,
    RebuildParameter,
    /// The type of a storage or of elements; `None` if the storage has none.
    Type(Option<ElementType>),
    Sequence,
    /// A class or function whose values do not matter.
    Ignored,
}

/// A storage: its key in the file, its element type and its number of elements. In files without typed storages, the type is
/// absent, and the length counts bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub key: String,
    pub element: Option<ElementType>,
    pub length: u64,
}

/// A tensor as a part of a storage.
#[derive(Clone, Debug)]
pub(super) struct StridedTensor {
    pub storage: Storage,
    pub element: ElementType,
    /// Position of the first element.
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads one pickle from `input`, of which at most `limit` bytes are left.
    ///
    /// # Errors
    /// `Format` when it is damaged, or contains something that is not a tensor, a number, a text or a collection of them.
    pub fn read(input: &mut dyn BufRead, limit: u64) -> Result<(Self, u64)> {
        let mut machine = Machine {
            input,
            left: limit,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        let used = limit - machine.left;
        Ok((Pickle { values: machine.values, root }, used))
    }

    /// Returns the value that was pickled.
    pub fn root(&self) -> &Value {
        self.get(self.root)
    }

    /// Calls `f` for all storages that were referred to.
    pub fn storages<'a>(&'a self, mut f: impl FnMut(&'a Storage)) {
        for value in &self.values {
            if let Value::Storage(storage) = value {
                f(storage);
            }
        }
    }

    /// Returns a value by its number.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }
}

struct Machine<'a> {
    input: &'a mut dyn BufRead,
    /// Number of bytes that may still be read.
    left: u64,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Lengths of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

fn damaged(what: &str) -> Error {
    Error::format(format!("the pickle is damaged: {what}"))
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let [code] = self.array()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    /// Executes an instruction.
    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            // Protocol and frames.
            0x80 => self.array::<1>().map(drop),
            0x95 => self.array::<8>().map(drop),
            // The stack.
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => match self.marks.last() {
                // As in CPython, POP at a mark removes the mark.
                Some(mark) if *mark == self.stack.len() => self.pop_mark().map(drop),
                _ => self.pop().map(drop),
            },
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            // Numbers.
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'I' | b'L' => self.text_integer(),
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())
            }
            b'F' => {
                let line = self.line()?;
                let value = line.parse().map_err(|_| damaged("not a number"))?;
                self.push(Value::Float(value))
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value))
            }
            // Texts and bytes.
            b'S' => {
                let line = self.line()?;
                let text = line.trim_matches(|c| c == '\'' || c == '"').to_string();
                self.push(Value::Text(text))
            }
            b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line))
            }
            b'U' | 0x8c | b'C' => {
                let [length] = self.array()?;
                self.text(code, length.into())
            }
            b'T' | b'X' | b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(code, length.into())
            }
            0x8d | 0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(code, length)
            }
            // Collections.
            b')' | b']' | 0x8f => self.push(Value::Sequence(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::Sequence(items))
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let items = self.pop_many(count)?;
                self.push(Value::Sequence(items))
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.insert(items)
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.insert(items)
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(items)
            }
            // The memo.
            b'p' => {
                let number = self.line()?.parse().map_err(|_| damaged("not a memo number"))?;
                self.put(number)
            }
            b'q' => {
                let [number] = self.array()?;
                self.put(number.into())
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.put(number.into())
            }
            0x94 => self.put(self.memo.len() as u64),
            b'g' => {
                let number = self.line()?.parse().map_err(|_| damaged("not a memo number"))?;
                self.recall(number)
            }
            b'h' => {
                let [number] = self.array()?;
                self.recall(number.into())
            }
            b'j' => {
                let number = u32::from_le_bytes(self.array()?);
                self.recall(number.into())
            }
            // Names and calls.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Name(lookup(&module, &name)?))
            }
            0x93 => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.push(Value::Name(lookup(&module, &name)?))
            }
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => self.storage(),
            other => Err(Error::format(format!(
                "the pickle contains the instruction {other:#04x}, which files of tensors do not need"
            ))),
        }
    }

    /// Reads `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|e| Error::io("cannot read the pickle", e))?;
        Ok(bytes)
    }

    /// Reads `length` bytes.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.take(length)?;
        let mut bytes = try_vec(length as usize, "a value of the pickle")?;
        self.input.read_exact(&mut bytes).map_err(|e| Error::io("cannot read the pickle", e))?;
        Ok(bytes)
    }

    fn take(&mut self, length: u64) -> Result<()> {
        self.left = self.left.checked_sub(length).ok_or_else(|| damaged("it is truncated"))?;
        Ok(())
    }

    /// Reads a line of text.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            let [byte] = self.array()?;
            if byte == b'\n' {
                return String::from_utf8(line).map_err(|_| damaged("a line is not UTF-8"));
            }
            line.push(byte);
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// Returns the length of the stack at the last mark: what is below belongs to outer collections.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(damaged("an instruction finds nothing on the stack")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.stack.len() - self.floor() < count {
            return Err(damaged("an instruction finds nothing on the stack"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| damaged("there is no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_text(&mut self) -> Result<String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(damaged("a name is not a text")),
        }
    }

    fn text_integer(&mut self) -> Result<()> {
        let line = self.line()?;
        // Truth values of protocol 1.
        if matches!(line.as_str(), "00" | "01") {
            return self.push(Value::Other);
        }
        let digits = line.strip_suffix('L').unwrap_or(&line);
        self.push(Value::Int(digits.parse().map_err(|_| damaged("not an integer"))?))
    }

    /// Reads an integer in two's complement.
    fn long(&mut self, length: u64) -> Result<()> {
        let bytes = self.bytes(length)?;
        if bytes.len() > 16 {
            return Err(damaged("an integer is too large"));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i128::from_le_bytes(all)))
    }

    fn text(&mut self, code: u8, length: u64) -> Result<()> {
        let bytes = self.bytes(length)?;
        match code {
            // Bytes, of which files of tensors do not need any.
            b'C' | b'B' | 0x8e | 0x96 => self.push(Value::Other),
            // Texts of Python 2 have no encoding.
            b'U' | b'T' => self.push(Value::Text(String::from_utf8_lossy(&bytes).into_owned())),
            _ => {
                let text = String::from_utf8(bytes).map_err(|_| damaged("a text is not UTF-8"))?;
                self.push(Value::Text(text))
            }
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Sequence(list) => list.extend(items),
            Value::Other => {}
            _ => return Err(damaged("items are added to something that is not a list")),
        }
        Ok(())
    }

    fn insert(&mut self, items: Vec<Id>) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(damaged("a key of a dictionary has no value"));
        }
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Value::Other => {}
            _ => return Err(damaged("items are set in something that is not a dictionary")),
        }
        Ok(())
    }

    fn put(&mut self, number: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Result<()> {
        let id = *self.memo.get(&number).ok_or_else(|| damaged("the memo has no such number"))?;
        self.stack.push(id);
        Ok(())
    }

    /// Makes the value of a call: the function and its arguments are on the stack.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Sequence(arguments) = &self.values[arguments] else {
            return Err(damaged("the arguments of a call are not a tuple"));
        };
        let Value::Name(name) = self.values[function] else {
            return Err(damaged("something is called that is not a function"));
        };
        let argument = |i: usize| arguments.get(i).copied().ok_or_else(|| damaged("an argument is missing"));
        let value = match name {
            Name::OrderedDict if arguments.is_empty() => Value::Dict(Vec::new()),
            Name::OrderedDict => return Err(damaged("an OrderedDict is created with arguments")),
            Name::Ignored | Name::Type(_) => Value::Other,
            Name::Sequence => match arguments.first() {
                Some(items) => Value::Sequence(self.sequence(*items)?.to_vec()),
                None => Value::Sequence(Vec::new()),
            },
            Name::RebuildParameter => {
                self.stack.push(argument(0)?);
                return Ok(());
            }
            Name::RebuildTensor | Name::RebuildTensorV3 => {
                let element = match name {
                    Name::RebuildTensorV3 => match &self.values[argument(6)?] {
                        Value::Name(Name::Type(element)) => *element,
                        _ => return Err(damaged("the type of a tensor is missing")),
                    },
                    _ => None,
                };
                let [storage, offset, shape, strides] =
                    [argument(0)?, argument(1)?, argument(2)?, argument(3)?];
                Value::Tensor(self.tensor([storage, offset, shape, strides], element)?)
            }
        };
        self.push(value)
    }

    fn tensor(
        &self,
        [storage, offset, shape, strides]: [Id; 4],
        element: Option<ElementType>,
    ) -> Result<StridedTensor> {
        let Value::Storage(storage) = &self.values[storage] else {
            return Err(damaged("a tensor has no storage"));
        };
        let element =
            element.or(storage.element).ok_or_else(|| damaged("the type of a tensor is not given"))?;
        let number = |id: &Id| match self.values[*id] {
            Value::Int(value) => {
                u64::try_from(value).map_err(|_| damaged("an extent, stride or offset is negative"))
            }
            _ => Err(damaged("an extent, stride or offset is not an integer")),
        };
        let offset = number(&offset)?;
        let shape: Vec<u64> = self.sequence(shape)?.iter().map(number).collect::<Result<_>>()?;
        let strides: Vec<u64> = self.sequence(strides)?.iter().map(number).collect::<Result<_>>()?;
        if shape.len() != strides.len() || shape.len() > 64 {
            return Err(damaged("the number of strides is not that of the extents"));
        }
        let shape = shape.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| damaged("an extent is too large"))?;
        Ok(StridedTensor { storage: storage.clone(), element, offset, shape, strides })
    }

    fn sequence(&self, id: Id) -> Result<&[Id]> {
        match &self.values[id] {
            Value::Sequence(items) => Ok(items),
            _ => Err(damaged("an argument is not a tuple")),
        }
    }

    /// Sets the state of an object, which is never needed: that of an `OrderedDict` is metadata.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let top = self.top()?;
        match &self.values[top] {
            Value::Dict(_) | Value::Other | Value::Tensor(_) => Ok(()),
            _ => Err(damaged("the state of something is set that has none")),
        }
    }

    /// Makes a storage of its persistent id: `("storage", type, key, location, length, ..)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = self.sequence(id)?;
        let part = |i: usize| {
            parts.get(i).map(|id| &self.values[*id]).ok_or_else(|| damaged("a storage is not described"))
        };
        let storage = match (part(0)?, part(1)?, part(2)?, part(4)?) {
            (Value::Text(kind), Value::Name(Name::Type(element)), Value::Text(key), Value::Int(length))
                if kind == "storage" =>
            {
                let length =
                    u64::try_from(*length).map_err(|_| damaged("the length of a storage is negative"))?;
                Storage { key: key.clone(), element: *element, length }
            }
            _ => return Err(damaged("a storage is not described as PyTorch does")),
        };
        // A part of another storage: `(key, offset, length)`.
        if let Ok(Value::Sequence(_)) = part(5) {
            return Err(Error::format(
                "the file has storages that are parts of others, as PyTorch before 0.4 wrote; load and save it with PyTorch",
            ));
        }
        self.push(Value::Storage(storage))
    }
}

/// Looks up a name that pickles of tensors contain.
fn lookup(module: &str, name: &str) -> Result<Name> {
    let found = match (module, name) {
        ("collections", "OrderedDict") => Some(Name::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Name::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Name::RebuildTensorV3),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Name::RebuildParameter)
        }
        ("torch", "Size") => Some(Name::Sequence),
        ("torch", "device") | ("torch.serialization", "_get_layout") | ("argparse", "Namespace") => {
            Some(Name::Ignored)
        }
        ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => Some(Name::Type(None)),
        ("torch" | "torch.cuda", _) => ElementType::of_torch(name).map(|element| Name::Type(Some(element))),
        _ => None,
    };
    found.ok_or_else(|| {
        let hint = if module.starts_with("torch") || module.contains("models") {
            "; if it holds a whole module, save its state_dict() instead"
        } else {
            ""
        };
        Error::format(format!(
            "the file refers to {module}.{name}, which is not needed for tensors, and nothing that it names is run{hint}"
        ))
    })
}
