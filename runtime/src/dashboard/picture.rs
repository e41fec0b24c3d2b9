//! Columns of boxes and the lines between them.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::words::visible;

const BOX_WIDTH: usize = 236;
const BOX_HEIGHT: usize = 46;
const GAP: usize = 14;
const BETWEEN: usize = 64;
const HEAD: usize = 30;
const MARGIN: usize = 6;
/// Characters that fit into a box.
const FIT: usize = 29;

struct Node {
    column: usize,
    name: String,
    class: &'static str,
    small: String,
}

/// A picture; a node is a place in it.
pub(super) struct Picture {
    heads: [&'static str; 4],
    nodes: Vec<Node>,
    edges: BTreeSet<(usize, usize)>,
}

impl Picture {
    pub(super) const fn new(heads: [&'static str; 4]) -> Self {
        Self { heads, nodes: Vec::new(), edges: BTreeSet::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn has(&self, column: usize, name: &str) -> bool {
        self.place(column, name).is_some()
    }

    fn place(&self, column: usize, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.column == column && node.name == name)
    }

    /// The box of that name, made where there is none.
    pub(super) fn node(&mut self, column: usize, name: &str, class: &'static str, small: &str) -> usize {
        if let Some(place) = self.place(column, name) {
            return place;
        }
        self.nodes.push(Node { column, name: name.to_owned(), class, small: small.to_owned() });
        self.nodes.len() - 1
    }

    pub(super) fn edge(&mut self, from: usize, to: usize) {
        self.edges.insert((from, to));
    }

    /// Where each box stands: in its column, in the order of coming.
    fn places(&self) -> (Vec<(usize, usize)>, usize) {
        let mut filled = [0; 4];
        let places = self
            .nodes
            .iter()
            .map(|node| {
                let row = filled[node.column];
                filled[node.column] += 1;
                (MARGIN + node.column * (BOX_WIDTH + BETWEEN), HEAD + row * (BOX_HEIGHT + GAP))
            })
            .collect();
        (places, filled.into_iter().max().unwrap_or(0))
    }

    pub(super) fn drawn(&self) -> Markup {
        let (places, rows) = self.places();
        let width = 2 * MARGIN + 4 * BOX_WIDTH + 3 * BETWEEN;
        let height = HEAD + rows * (BOX_HEIGHT + GAP) + MARGIN;
        let count = |column| self.nodes.iter().filter(|node| node.column == column).count();
        let about = format!(
            "{} events, {} topics, {} subscriptions, {} handlers and their connections",
            count(0),
            count(1),
            count(2),
            count(3)
        );
        html! {
            svg width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(about) {
                @for (column, head) in self.heads.iter().enumerate() {
                    text.small x=(MARGIN + column * (BOX_WIDTH + BETWEEN)) y="16" { (head) }
                }
                @for (from, to) in &self.edges {
                    @let (from, to) = (places[*from], places[*to]);
                    @let (x, y) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
                    @let (u, v) = (to.0, to.1 + BOX_HEIGHT / 2);
                    @let half = (x + u) / 2;
                    path.edge d=(format!("M{x} {y}C{half} {y} {half} {v} {u} {v}")) {}
                }
                @for (node, (x, y)) in self.nodes.iter().zip(&places) {
                    g {
                        title { (visible(&node.name)) }
                        rect class={ "node " (node.class) } x=(x) y=(y) width=(BOX_WIDTH) height=(BOX_HEIGHT) rx="8" {}
                        text x=(x + 12) y=(y + if node.small.is_empty() { 28 } else { 20 }) { (cut(&node.name)) }
                        @if !node.small.is_empty() { text.small x=(x + 12) y=(y + 37) { (cut(&node.small)) } }
                    }
                }
            }
        }
    }
}

/// The whole name stands in the box's title and in the list.
fn cut(text: &str) -> String {
    let text = visible(text);
    if text.chars().count() <= FIT {
        return text;
    }
    text.chars().take(FIT - 1).chain(['…']).collect()
}
