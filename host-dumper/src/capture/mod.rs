//! Capture: stops a process, reads it into [`image_format::model::Tree`], lets it go or ends it.
