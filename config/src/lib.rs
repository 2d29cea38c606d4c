//! Node configuration, genesis and keys of Tercet.
