package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"time"

	"github.com/cometbft/cometbft/abci/example/kvstore"
	"github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
)

// The status with which a process ends by a fault.
const exitStatus = 3

// Faulty is the key-value store with a fault.
type Faulty struct {
	*kvstore.Application
	source *Source
}

// The faults that a method commits before it has done its work.
func (f *Fault) before() error {
	if f == nil {
		return nil
	}
	switch f.Kind {
	case "late":
		time.Sleep(f.By)
	case "never":
		fmt.Println(f.Method, "does not return")
		select {}
	case "exit":
		os.Exit(exitStatus)
	case "panic":
		panic(f.Method + " panics, as it was told")
	case "error":
		return fmt.Errorf("%s fails, as it was told", f.Method)
	}
	return nil
}

// Does a call with its fault: before it, and to its answer.
func with[Request, Response any](
	app *Faulty, method string, ctx context.Context, request Request,
	call func(context.Context, Request) (*Response, error),
	spoil func(kind string, answer *Response),
) (*Response, error) {
	fault := app.source.In(method)
	if err := fault.before(); err != nil {
		return nil, err
	}
	answer, err := call(ctx, request)
	if fault != nil && err == nil && spoil != nil {
		spoil(fault.Kind, answer)
	}
	return answer, err
}

func (app *Faulty) Info(ctx context.Context, request *types.RequestInfo) (*types.ResponseInfo, error) {
	return with(app, "Info", ctx, request, app.Application.Info, func(kind string, answer *types.ResponseInfo) {
		switch kind {
		case "wrong-hash":
			answer.LastBlockAppHash = []byte("no such hash")
		case "wrong-ahead":
			answer.LastBlockHeight += 1000
		case "wrong-negative":
			answer.LastBlockHeight = -1
		}
	})
}

func (app *Faulty) InitChain(ctx context.Context, request *types.RequestInitChain) (*types.ResponseInitChain, error) {
	return with(app, "InitChain", ctx, request, app.Application.InitChain, func(kind string, answer *types.ResponseInitChain) {
		switch kind {
		case "wrong-hash":
			answer.AppHash = []byte("no such hash")
		default:
			answer.Validators = updates(kind)
			answer.ConsensusParams = params(kind)
		}
	})
}

func (app *Faulty) Query(ctx context.Context, request *types.RequestQuery) (*types.ResponseQuery, error) {
	return with(app, "Query", ctx, request, app.Application.Query, func(kind string, answer *types.ResponseQuery) {
		if kind == "wrong-code" {
			answer.Code = 4_000_000_000
			answer.Height = -7
		}
	})
}

func (app *Faulty) CheckTx(ctx context.Context, request *types.RequestCheckTx) (*types.ResponseCheckTx, error) {
	return with(app, "CheckTx", ctx, request, app.Application.CheckTx, func(kind string, answer *types.ResponseCheckTx) {
		switch kind {
		case "wrong-code":
			answer.Code = 7
		case "wrong-gas":
			answer.GasWanted = -1 << 62
		}
	})
}

func (app *Faulty) PrepareProposal(
	ctx context.Context, request *types.RequestPrepareProposal,
) (*types.ResponsePrepareProposal, error) {
	return with(app, "PrepareProposal", ctx, request, app.Application.PrepareProposal,
		func(kind string, answer *types.ResponsePrepareProposal) {
			switch kind {
			case "wrong-tx":
				answer.Txs = append(answer.Txs, []byte("no key-value pair"))
			case "over-limit":
				answer.Txs = append(answer.Txs, bytes.Repeat([]byte("x"), int(request.MaxTxBytes)+1))
			}
		})
}

func (app *Faulty) ProcessProposal(
	ctx context.Context, request *types.RequestProcessProposal,
) (*types.ResponseProcessProposal, error) {
	return with(app, "ProcessProposal", ctx, request, app.Application.ProcessProposal,
		func(kind string, answer *types.ResponseProcessProposal) {
			switch {
			case kind == "wrong-status":
				answer.Status = types.ResponseProcessProposal_UNKNOWN
			case kind == "wrong-reject", kind == "wrong-flapping" && rand.Intn(2) == 0:
				answer.Status = types.ResponseProcessProposal_REJECT
			}
		})
}

// ExtendVote says the height, so that there is something to verify.
func (app *Faulty) ExtendVote(ctx context.Context, request *types.RequestExtendVote) (*types.ResponseExtendVote, error) {
	extend := func(context.Context, *types.RequestExtendVote) (*types.ResponseExtendVote, error) {
		return &types.ResponseExtendVote{VoteExtension: extension(request.Height)}, nil
	}
	return with(app, "ExtendVote", ctx, request, extend, func(kind string, answer *types.ResponseExtendVote) {
		if kind == "over-limit" {
			answer.VoteExtension = bytes.Repeat([]byte("x"), 8<<20)
		}
	})
}

func (app *Faulty) VerifyVoteExtension(
	ctx context.Context, request *types.RequestVerifyVoteExtension,
) (*types.ResponseVerifyVoteExtension, error) {
	verify := func(context.Context, *types.RequestVerifyVoteExtension) (*types.ResponseVerifyVoteExtension, error) {
		status := types.ResponseVerifyVoteExtension_REJECT
		if bytes.Equal(request.VoteExtension, extension(request.Height)) {
			status = types.ResponseVerifyVoteExtension_ACCEPT
		}
		return &types.ResponseVerifyVoteExtension{Status: status}, nil
	}
	return with(app, "VerifyVoteExtension", ctx, request, verify,
		func(kind string, answer *types.ResponseVerifyVoteExtension) {
			switch kind {
			case "wrong-status":
				answer.Status = types.ResponseVerifyVoteExtension_UNKNOWN
			case "wrong-reject":
				answer.Status = types.ResponseVerifyVoteExtension_REJECT
			}
		})
}

func (app *Faulty) FinalizeBlock(
	ctx context.Context, request *types.RequestFinalizeBlock,
) (*types.ResponseFinalizeBlock, error) {
	return with(app, "FinalizeBlock", ctx, request, app.Application.FinalizeBlock,
		func(kind string, answer *types.ResponseFinalizeBlock) {
			switch kind {
			case "wrong-missing":
				answer.TxResults = nil
			case "wrong-many":
				answer.TxResults = append(answer.TxResults, &types.ExecTxResult{})
			case "wrong-hash":
				answer.AppHash = []byte("no such hash")
			case "wrong-code":
				for _, result := range answer.TxResults {
					result.Code = 7
				}
			default:
				answer.ValidatorUpdates = append(answer.ValidatorUpdates, updates(kind)...)
				answer.ConsensusParamUpdates = params(kind)
			}
		})
}

func (app *Faulty) Commit(ctx context.Context, request *types.RequestCommit) (*types.ResponseCommit, error) {
	return with(app, "Commit", ctx, request, app.Application.Commit, func(kind string, answer *types.ResponseCommit) {
		switch kind {
		case "wrong-retain":
			answer.RetainHeight = 1 << 40
		case "wrong-negative":
			answer.RetainHeight = -5
		}
	})
}

func extension(height int64) []byte {
	return []byte(fmt.Sprintf("height %d", height))
}

// Validator updates that no node may take.
func updates(kind string) []types.ValidatorUpdate {
	key := ed25519.GenPrivKeyFromSecret([]byte("nobody")).PubKey().Bytes()
	switch kind {
	case "wrong-key":
		return []types.ValidatorUpdate{types.UpdateValidator(bytes.Repeat([]byte{0xff}, 31), 5, "")}
	case "wrong-validators":
		return []types.ValidatorUpdate{types.UpdateValidator(key, 5, "")}
	case "wrong-twice":
		return []types.ValidatorUpdate{types.UpdateValidator(key, 5, ""), types.UpdateValidator(key, 6, "")}
	case "wrong-negative":
		return []types.ValidatorUpdate{types.UpdateValidator(key, -5, "")}
	case "wrong-removal":
		return []types.ValidatorUpdate{types.UpdateValidator(key, 0, "")}
	}
	return nil
}

// Parameters that no node may take.
func params(kind string) *cmtproto.ConsensusParams {
	if kind != "wrong-params" {
		return nil
	}
	return &cmtproto.ConsensusParams{Block: &cmtproto.BlockParams{MaxBytes: 0, MaxGas: -1}}
}
