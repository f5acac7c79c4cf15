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
    /// Puts sections into a file, each between two comment lines that mark it as ours. Fails if Go templates decide
    /// whether Traefik reads them.
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
        let pieces = match &*paths {
            [] => self.weave_into(text, &tree, sections),
            paths => {
                let text = self.opened(text, paths)?;
                let tree = self.parse(&text)?;
                self.weave_into(&text, &tree, sections)
            }
        };
        let mut above = String::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => above.push_str(text),
                Piece::Part { .. } if has_open_action(&above) => {
                    return Err("routes would stand within a Go template, such as between {{ if … }} and {{ end }}, \
                                and Traefik may leave them out; keep the template in another file, and have Traefik \
                                watch the folder of both"
                        .into());
                }
                Piece::Part { .. } => {}
            }
        }
        Ok(pieces)
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

/// Whether a Go template that begins in this text ends behind it: an action such as `{{ if … }}`, or a comment.
fn has_open_action(text: &str) -> bool {
    let mut depth = 0;
    let mut rest = text;
    while let Some((_, action)) = rest.split_once("{{") {
        let action = action.strip_prefix('-').unwrap_or(action).trim_start();
        let closing = if action.starts_with("/*") { "*/" } else { "}}" };
        let Some((action, behind)) = action.split_once(closing) else {
            return true;
        };
        match action.split(|c: char| !c.is_ascii_alphabetic()).next() {
            Some("if" | "range" | "with" | "block" | "define") => depth += 1,
            Some("end") => depth -= 1,
            _ => {}
        }
        rest = behind;
    }
    depth != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_template_actions_are_seen() {
        for (text, is_open) in [
            ("", false),
            ("a = '{{ env \"X\" }}'\n# {{ iffy }}\n# }} {", false),
            (
                "# {{ if eq 1 2 }}\na = 1\n# {{ else }}\n# {{ end }}\n",
                false,
            ),
            ("# {{- if(eq 1 2) -}}\n# {{- end -}}\n", false),
            (
                "# {{ if true }}{{ range $i, $e := until 3 }}\n# {{ end }}\n",
                true,
            ),
            ("# {{if true}}\na = 1\n", true),
            ("# {{- define \"x\" }}", true),
            ("# {{/* if {{ end }} */}}\n", false),
            ("# {{- /* from here\n}}", true),
            ("# {{", true),
        ] {
            assert_eq!(has_open_action(text), is_open, "{text}");
        }
    }
}
