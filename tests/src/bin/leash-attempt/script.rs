//! The language of attempts: statements separated by `;`, each an operation with words.
//!
//! `fd = open {path} O_RDONLY; read $fd`: a statement may name its answer, `$name` puts it into later words, `%20` writes any
//! byte, `''` is the empty word, and a leading `?` lets a statement fail (its answer is then the negative errno).

use crate::sys::{Answer, Fail};
use crate::{exec, files, kernel, loops, net, swap};
use leash_tests::attempt::{Attempt, Outcome};
use std::collections::BTreeMap;

/// What one script has gathered.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) data: Vec<u8>,
    variables: BTreeMap<String, i64>,
}

/// The words of one statement after its operation.
pub(crate) struct Words(Vec<Vec<u8>>);

impl Words {
    /// The bytes of word `index`; empty where there is none.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn text(&self, index: usize) -> &str {
        std::str::from_utf8(self.bytes(index)).expect("text argument")
    }

    /// A number, or names of constants joined by `|`; 0 where there is no such word.
    pub(crate) fn int(&self, index: usize) -> i64 {
        match self.text(index) {
            "" => 0,
            text => text.split('|').map(files::constant).fold(0, |sum, value| sum | value),
        }
    }

    pub(crate) fn from(&self, index: usize) -> &[Vec<u8>] {
        self.0.get(index..).unwrap_or_default()
    }
}

/// Performs an attempt up to the first statement that fails.
pub(crate) fn perform(attempt: &Attempt) -> Outcome {
    let mut context = Context::default();
    let mut outcome = Outcome { id: attempt.id.clone(), ok: true, pid: std::process::id(), ..Outcome::default() };
    for statement in attempt.script.split(';') {
        let mut words: Vec<&str> = statement.split_whitespace().collect();
        let lenient = words.first() == Some(&"?");
        if lenient {
            words.remove(0);
        }
        let name = if words.get(1) == Some(&"=") { Some(words.drain(..2).next().unwrap().to_owned()) } else { None };
        let Some((operation, rest)) = words.split_first() else { continue };
        let rest = Words(rest.iter().map(|word| expand(word, &context.variables)).collect());
        let answer = operate(operation, &rest, &mut context);
        let value = match answer {
            Ok(value) => value,
            Err(fail) if lenient => -i64::from(fail.errno),
            Err(Fail { errno, note }) => {
                outcome = Outcome { ok: false, errno, at: (*operation).to_owned(), note, ..outcome };
                break;
            }
        };
        if let Some(name) = name {
            context.variables.insert(name, value);
        }
    }
    outcome.data = String::from_utf8_lossy(&context.data).into_owned();
    outcome
}

fn operate(operation: &str, words: &Words, context: &mut Context) -> Answer {
    None.or_else(|| files::operate(operation, words, context))
        .or_else(|| exec::operate(operation, words, context))
        .or_else(|| net::operate(operation, words, context))
        .or_else(|| kernel::operate(operation, words))
        .or_else(|| loops::operate(operation, words, context))
        .or_else(|| swap::operate(operation, words, context))
        .unwrap_or_else(|| panic!("no operation `{operation}`"))
}

/// `%xx` becomes a byte, `$name` a variable's value.
fn expand(word: &str, variables: &BTreeMap<String, i64>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = if word == "''" { b"" } else { word.as_bytes() };
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits after %"));
                rest = &rest[2..];
            }
            b'$' => {
                let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                let name = std::str::from_utf8(&rest[..length]).unwrap();
                let value = match name {
                    "pid" => i64::from(std::process::id()),
                    "ppid" => i64::from(nix::unistd::getppid().as_raw()),
                    _ => *variables.get(name).unwrap_or_else(|| panic!("no variable `{name}`")),
                };
                out.extend_from_slice(value.to_string().as_bytes());
                rest = &rest[length..];
            }
            byte => out.push(byte),
        }
    }
    out
}
