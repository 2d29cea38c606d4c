//! The application boundary of Tercet and the kvstore application.
