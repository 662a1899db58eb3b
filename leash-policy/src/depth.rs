//! How deep expressions are, told from their tokens.
//!
//! Cedar's parser recurses into brackets and `if`s, all else recurses into the parsed expression, in which `a || b || c` is as deep
//! as it is long. Both are bounded here, before anything recurses.

/// Brackets and `if`s inside of one another.
pub(crate) const MAX_NESTING: usize = 1_000;
/// Operators that are applied to one another's results.
pub(crate) const MAX_OPERATORS: usize = 10_000;

/// The first place beyond a limit, and how far the text goes beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(crate) at: usize,
    pub(crate) most: usize,
}

/// An open bracket, or the text itself.
#[derive(Clone, Copy, Default)]
struct Frame {
    /// `if`s, which reach to the end of this part of the frame.
    ifs: usize,
    /// Operators in this part so far. They take each other's results.
    operators: usize,
    /// Attributes read, and calls, in the current operand.
    accesses: usize,
    /// The deepest operand of this part.
    operand: usize,
    /// The deepest part of the frame: parts are separated by commas or semicolons.
    part: usize,
}

impl Frame {
    fn end_operand(&mut self) {
        self.operand = self.operand.max(self.accesses);
        self.accesses = 0;
    }

    fn depth(&self) -> usize {
        self.part.max(self.ifs + self.operators + self.operand.max(self.accesses))
    }

    fn end_part(&mut self) {
        *self = Self { part: self.depth(), ..Self::default() };
    }
}

/// Follows the tokens of a text.
#[derive(Default)]
pub(crate) struct Depth {
    /// The text itself, and the open brackets.
    text: Frame,
    brackets: Vec<Frame>,
    /// `if`s in all of these.
    ifs: usize,
    before: Option<char>,
    pub(crate) nesting: Option<Excess>,
    pub(crate) operators: Option<Excess>,
}

impl Depth {
    /// A character outside of strings, comments and words.
    pub(crate) fn symbol(&mut self, c: char, at: usize) {
        match c {
            '(' | '[' | '{' => {
                // `x[…]` reads from `x`.
                self.innermost().accesses += usize::from(c == '[');
                self.brackets.push(Frame::default());
            }
            ')' | ']' | '}' => {
                if let Some(closed) = self.brackets.pop() {
                    self.ifs -= closed.ifs;
                    let frame = self.innermost();
                    // A call, a set and a record are something of their own.
                    frame.operand = frame.operand.max(frame.accesses + closed.depth() + 1);
                }
            }
            ',' | ';' => {
                self.ifs -= self.innermost().ifs;
                self.innermost().end_part();
            }
            '.' => self.innermost().accesses += 1,
            '|' | '&' if self.before == Some(c) => self.operator(),
            '+' | '-' | '*' | '/' | '%' => self.operator(),
            _ => {}
        }
        self.before = Some(c).filter(|c| self.before != Some(*c));
        self.check(at);
    }

    /// The word before the current character, if there is one.
    pub(crate) fn word(&mut self, word: &str, at: usize) {
        if word.is_empty() {
            return;
        }
        self.before = None;
        match word {
            "if" => {
                self.innermost().ifs += 1;
                self.ifs += 1;
            }
            // All conditions of a policy are joined.
            "when" | "unless" => self.operator(),
            _ => {}
        }
        self.check(at);
    }

    fn innermost(&mut self) -> &mut Frame {
        self.brackets.last_mut().unwrap_or(&mut self.text)
    }

    fn operator(&mut self) {
        let frame = self.innermost();
        frame.end_operand();
        frame.operators += 1;
    }

    fn check(&mut self, at: usize) {
        let (nesting, depth) = (self.brackets.len() + self.ifs, self.innermost().depth());
        for (found, now, limit) in [(&mut self.nesting, nesting, MAX_NESTING), (&mut self.operators, depth, MAX_OPERATORS)] {
            if now > limit {
                let first = found.map_or(at, |excess| excess.at);
                *found = Some(Excess { at: first, most: now.max(found.map_or(0, |excess| excess.most)) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth_of(text: &str) -> (usize, usize) {
        let mut depth = Depth::default();
        let (mut word, mut nesting, mut deepest) = (String::new(), 0, 0);
        for (at, c) in text.char_indices().chain([(text.len(), ';')]) {
            if c.is_alphanumeric() {
                word.push(c);
                continue;
            }
            depth.word(&std::mem::take(&mut word), at);
            nesting = nesting.max(depth.brackets.len() + depth.ifs);
            deepest = deepest.max(depth.innermost().depth());
            depth.symbol(c, at);
            nesting = nesting.max(depth.brackets.len() + depth.ifs);
            deepest = deepest.max(depth.innermost().depth());
        }
        (nesting, deepest)
    }

    #[test]
    fn depth_is_no_less_than_the_expressions() {
        for (text, nesting, deepest) in [
            ("a", 0, 0),
            ("a || b || c", 0, 2),
            ("a.b.c == 1", 0, 2),
            ("a.b || c.d", 0, 2),
            ("a[b][c]", 1, 3),
            ("((a))", 2, 2),
            ("[a.b, c.d, e.f]", 1, 3),
            ("if a then b else if c then d else e", 2, 2),
            ("(if a then b else c, d)", 2, 2),
            ("f(g(h(1)))", 3, 3),
            ("a - -b * c", 0, 3),
            ("when { a } when { b && c }", 1, 4),
            ("a || b; c || d || e", 0, 2),
            ("[1, 2] == [3]", 1, 3),
        ] {
            let found = depth_of(text);
            assert!(found == (nesting, deepest), "{text}: {found:?}");
        }
    }
}
