//! The executor and the handshake against a scripted application.
