package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// The methods of ABCI 2.0, in the order in which a node meets them.
var methods = []string{
	"Info", "InitChain", "Query", "CheckTx", "PrepareProposal", "ProcessProposal", "ExtendVote",
	"VerifyVoteExtension", "FinalizeBlock", "Commit", "ListSnapshots", "OfferSnapshot",
	"LoadSnapshotChunk", "ApplySnapshotChunk",
}

// Faults that every method can have.
var common = []string{
	"late",       // answers after a while
	"never",      // never returns: CometBFT's server holds its one lock, so that no other method answers either
	"withheld",   // has done its work, and its answer never leaves; other connections go on
	"exit",       // the process ends in the method
	"exit-after", // the process ends once the answer has left
	"panic",      // panics: CometBFT's server closes the connection, and the process stays
	"error",      // returns an error: CometBFT's server answers with an exception and closes the connection
	"exception",  // an exception that arrives whole, with the connection open
	"other-type", // the answer to another call
	"too-large",  // a message above the limit of 100 MiB
}

// Wrong answers that the protocol can express, by method.
var wrong = map[string][]string{
	"Info":                {"wrong-hash", "wrong-ahead", "wrong-negative"},
	"InitChain":           {"wrong-hash", "wrong-key", "wrong-twice", "wrong-params", "wrong-validators"},
	"Query":               {"wrong-code"},
	"CheckTx":             {"wrong-code", "wrong-gas"},
	"PrepareProposal":     {"wrong-tx", "over-limit"},
	"ProcessProposal":     {"wrong-status", "wrong-reject", "wrong-flapping"},
	"ExtendVote":          {"over-limit"},
	"VerifyVoteExtension": {"wrong-status", "wrong-reject"},
	"FinalizeBlock": {
		"wrong-missing", "wrong-many", "wrong-hash", "wrong-code", "wrong-key", "wrong-twice",
		"wrong-negative", "wrong-removal", "wrong-params",
	},
	"Commit": {"wrong-retain", "wrong-negative"},
}

func kindsOf(method string) []string {
	return append(slices.Clone(common), wrong[method]...)
}

// Fault is what one method does wrong.
type Fault struct {
	Method, Kind string
	By           time.Duration
}

func parse(method, kind string, by time.Duration) (*Fault, error) {
	if !slices.Contains(methods, method) {
		return nil, fmt.Errorf("no method %q: --list shows them", method)
	}
	if !slices.Contains(kindsOf(method), kind) {
		return nil, fmt.Errorf("%s has no fault %q: --list shows them", method, kind)
	}
	return &Fault{Method: method, Kind: kind, By: by}, nil
}

// Source says which fault there is at the moment.
type Source struct {
	fixed *Fault
	file  string
}

// In is the fault of this method at the moment; none where it is well.
func (s *Source) In(method string) *Fault {
	fault := s.fixed
	if s.file != "" {
		if text, err := os.ReadFile(s.file); err == nil {
			fault = read(string(text))
		}
	}
	if fault == nil || fault.Method != method {
		return nil
	}
	return fault
}

func read(text string) *Fault {
	words := strings.Fields(text)
	if len(words) < 2 {
		return nil
	}
	by := 3 * time.Second
	if len(words) > 2 {
		if given, err := time.ParseDuration(words[2]); err == nil {
			by = given
		}
	}
	fault, err := parse(words[0], words[1], by)
	if err != nil {
		fmt.Println("ignored:", err)
		return nil
	}
	return fault
}
