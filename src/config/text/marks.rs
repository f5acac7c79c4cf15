//! The two comment lines that our parts of a file stand between.

use std::collections::HashSet;
use std::ops::Range;

use super::syntax::Syntax;
use super::tree::{Node, bom_len, filled, without_lines};

const BEGIN: &str = "# traefik-router: begin";
const BEGIN_LINE: &str =
    "# traefik-router: begin (what stands between here and the end is replaced at each change)\n";
/// The same below a last line that had no line break, so that it can be as it was.
const BEGIN_LINE_UNENDED: &str = "# traefik-router: begin (what stands between here and the end is \
     replaced at each change; the line above had no line break)\n";
const UNENDED: &str = "had no line break)";
pub(super) const END_LINE: &str = "# traefik-router: end\n";

/// A piece of a file, and our mark below it.
pub(super) fn begun(text: &str, range: Range<usize>) -> String {
    let is_ended =
        range.end <= bom_len(text) || range.is_empty() || text[..range.end].ends_with('\n');
    let (end, mark) = match is_ended {
        true => ("", BEGIN_LINE),
        false => ("\n", BEGIN_LINE_UNENDED),
    };
    [&text[range], end, mark].concat()
}

/// Cuts our marked parts out of a file: what is left, and the parts. `None` if the marks do not
/// pair up, as after an edit by hand. A line of a text that looks like a mark counts as one.
pub(crate) fn cut(text: &str) -> Option<(String, Vec<&str>)> {
    let parts = pairs(&lines_like_marks(text))?;
    let inner = |part: &Part| &text[part.inner.clone()];
    Some((
        without_parts(text, &parts),
        parts.iter().map(inner).collect(),
    ))
}

/// What is not between our marks. `None` if there are none, or they do not pair up. `tree` is what
/// `text` was read to.
pub(crate) fn outside(syntax: Syntax, text: &str, tree: &Node) -> Option<String> {
    let marks = marks(syntax, text);
    let parts = pairs(&marks).filter(|parts| !parts.is_empty())?;
    let ranges: Vec<_> = parts.iter().map(|part| part.lines.clone()).collect();
    let rest = without_lines(text, ranges.clone());
    let left = syntax.parse(&rest).map(|left| filled(left.to_value()));
    if left == Ok(tree.value_outside(&ranges)) {
        let unended = without_parts(text, &parts);
        let left = syntax.parse(&unended);
        // Another program may have put a text there since, whose value would lack the line break.
        let is_good = left.is_ok_and(|left| !left.is_open_ended(&unended));
        return Some(if is_good { unended } else { rest });
    }
    // Something outside belongs to a table that begins between our marks.
    let mut lines = marks.into_iter().map(|mark| mark.line).collect();
    tree.collect_inside(&ranges, &mut lines);
    Some(without_lines(text, lines))
}

/// `text` without our marks. A line of a value that looks like one stays.
pub(crate) fn unmarked(syntax: Syntax, text: &str) -> String {
    let marks = marks(syntax, text);
    without_lines(text, marks.into_iter().map(|mark| mark.line).collect())
}

/// A line that is a mark of ours, or looks like one.
struct Mark {
    line: Range<usize>,
    /// The end of what makes it one.
    word_end: usize,
    begins: bool,
}

/// What stands between two marks.
struct Part {
    inner: Range<usize>,
    /// The same with the marks.
    lines: Range<usize>,
}

fn lines_like_marks(text: &str) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut at = bom_len(text);
    for line in text[at..].split_inclusive('\n') {
        let mark = line.trim_start_matches([' ', '\t']);
        let begins = mark.starts_with(BEGIN);
        if begins || mark.trim_end() == END_LINE.trim_end() {
            let word = if begins { BEGIN } else { END_LINE.trim_end() };
            marks.push(Mark {
                line: at..at + line.len(),
                word_end: at + line.len() - mark.len() + word.len(),
                begins,
            });
        }
        at += line.len();
    }
    marks
}

/// The lines that are our marks. A line inside a value is none, even if it looks like one.
fn marks(syntax: Syntax, text: &str) -> Vec<Mark> {
    let marks = lines_like_marks(text);
    if marks.is_empty() {
        return marks;
    }
    // A word that is appended to a comment shows up in no value.
    let word = (0_usize..)
        .map(|n| format!("mark-{n}-"))
        .find(|word| !text.contains(word.as_str()))
        .unwrap_or_default();
    let mut changed = String::with_capacity(text.len());
    let mut done = 0;
    for (n, mark) in marks.iter().enumerate() {
        changed.push_str(&text[done..mark.word_end]);
        changed.push_str(&format!(" {word}{n}-"));
        done = mark.word_end;
    }
    changed.push_str(&text[done..]);
    if let Ok(tree) = syntax.parse(&changed) {
        let values = tree.to_value().to_string();
        let numbers = values.split(&word).skip(1);
        let numbers = numbers.filter_map(|rest| rest.split('-').next()?.parse().ok());
        let in_values: HashSet<usize> = numbers.collect();
        let marks = marks.into_iter().enumerate();
        let marks = marks.filter(|(n, _)| !in_values.contains(n));
        return marks.map(|(_, mark)| mark).collect();
    }
    marks
}

fn pairs(marks: &[Mark]) -> Option<Vec<Part>> {
    let (pairs, rest) = marks.as_chunks::<2>();
    let is_pair = |[begin, end]: &[Mark; 2]| begin.begins && !end.begins;
    let part = |[begin, end]: &[Mark; 2]| Part {
        inner: begin.line.end..end.line.start,
        lines: begin.line.start..end.line.end,
    };
    (rest.is_empty() && pairs.iter().all(is_pair)).then(|| pairs.iter().map(part).collect())
}

/// `text` without these parts, and without the line break that we have given to its last line.
fn without_parts(text: &str, parts: &[Part]) -> String {
    let mut rest = String::with_capacity(text.len());
    let mut unended = None;
    let mut done = 0;
    for part in parts {
        rest.push_str(&text[done..part.lines.start]);
        let mark = &text[part.lines.start..part.inner.start];
        if mark.trim_end().ends_with(UNENDED) {
            unended = Some(rest.len());
        }
        done = part.lines.end;
    }
    rest.push_str(&text[done..]);
    if unended == Some(rest.len()) {
        let line = rest.strip_suffix('\n').unwrap_or(&rest);
        let end = line.strip_suffix('\r').unwrap_or(line).len();
        rest.truncate(end);
    }
    rest
}
