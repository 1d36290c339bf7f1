//! What must be refused: by a named condition, with no Secret touched, and healed when the cause is gone.

mod deputies;
mod rings;
mod values;
