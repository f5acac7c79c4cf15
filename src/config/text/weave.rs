//! Our sections among the lines of others.

use super::marks::{END_LINE, begun};
use super::pieces::Piece;
use super::syntax::Syntax;
use super::tree::{Node, Place};

/// Entries that we add to one map of a file.
pub(crate) struct Section<P> {
    /// The keys that lead to the map.
    pub(crate) path: Vec<String>,
    /// What goes there. The caller renders each part once the indentation is known.
    pub(crate) parts: Vec<P>,
}

struct Group<'a, P> {
    place: Place,
    sections: Vec<(&'a [String], &'a [P])>,
}

impl Syntax {
    /// Puts sections into a file, each between two comment lines that mark it as ours.
    pub(crate) fn weave<P: Clone>(
        self,
        text: &str,
        sections: &[Section<P>],
    ) -> Result<Vec<Piece<P>>, String> {
        let tree = self.parse(text)?;
        let paths: Vec<_> = sections
            .iter()
            .map(|section| &*section.path)
            .filter(|path| tree.place_of(path) == Place::Nowhere)
            .collect();
        if paths.is_empty() {
            return Ok(self.weave_into(text, &tree, sections));
        }
        let text = self.opened(text, &paths)?;
        let tree = self.parse(&text)?;
        Ok(self.weave_into(&text, &tree, sections))
    }

    fn weave_into<P: Clone>(
        self,
        text: &str,
        tree: &Node,
        sections: &[Section<P>],
    ) -> Vec<Piece<P>> {
        let mut inserts = Vec::new();
        let mut at_end = Vec::new();
        for group in self.groups(tree, sections) {
            match group.place {
                Place::Lines { at, indent } => {
                    inserts.push((at, indent, self.nested(&group.sections, indent)));
                }
                Place::End | Place::Nowhere => at_end.extend(self.nested(&group.sections, 0)),
            }
        }
        // An empty map at the end of a file takes its entries before the root takes its own.
        inserts.sort_by_key(|(at, indent, _)| (*at, std::cmp::Reverse(*indent)));
        let mut pieces = Vec::new();
        let mut done = 0;
        for (at, _, block) in inserts {
            pieces.push(Piece::Text(begun(text, done..at)));
            pieces.extend(block);
            pieces.push(Piece::Text(END_LINE.into()));
            done = at;
        }
        let mut rest = text[done..].to_string();
        if !at_end.is_empty() {
            pieces.push(Piece::Text(begun(text, done..text.len())));
            pieces.extend(at_end);
            rest = END_LINE.into();
        }
        pieces.push(Piece::Text(rest));
        pieces
    }

    /// Sections that go to the same place, with the path that is left to write from there.
    fn groups<'a, P>(self, tree: &Node, sections: &'a [Section<P>]) -> Vec<Group<'a, P>> {
        let mut groups: Vec<Group<'a, P>> = Vec::new();
        for section in sections {
            let (place, depth) = match self {
                Self::Toml => match tree.place_of(&section.path) {
                    place @ Place::Lines { .. } => (place, section.path.len()),
                    _ => (Place::End, 0),
                },
                #[cfg(feature = "yaml")]
                Self::Yaml => tree.deepest_place(&section.path),
            };
            let rest = (&section.path[depth..], &*section.parts);
            match groups.iter_mut().find(|group| group.place == place) {
                Some(group) => group.sections.push(rest),
                None => groups.push(Group {
                    place,
                    sections: vec![rest],
                }),
            }
        }
        groups
    }
}
