//! Drop path.

/// How much of each picture's branch is kept: drop path.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    pictures: Option<&'a [f32]>,
    rows_per_picture: usize,
}

impl<'a> Keep<'a> {
    /// One number a picture, or all of everything.
    pub fn new(pictures: Option<&'a [f32]>, rows_per_picture: usize) -> Self {
        Self {
            pictures,
            rows_per_picture,
        }
    }

    /// The number of one picture.
    pub(crate) fn picture(&self, i: usize) -> Option<&'a [f32]> {
        self.pictures.map(|keep| &keep[i..=i])
    }

    /// The number of the picture that a row belongs to.
    pub(crate) fn of(&self, row: usize) -> f32 {
        self.pictures
            .map_or(1.0, |keep| keep[row / self.rows_per_picture])
    }
}
