package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/cometbft/cometbft/abci/types"
)

// More than the largest message that a node takes.
const tooLargeBytes = 101 << 20

// Listens at path, and passes everything on to CometBFT's server at inner, answers with their fault: what that server
// cannot be made to send, and what is about the moment at which an answer leaves.
func relay(path, inner string, source *Source) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			node, err := listener.Accept()
			if err != nil {
				return
			}
			app, err := net.Dial("unix", inner)
			if err != nil {
				node.Close()
				continue
			}
			go func() {
				io.Copy(app, node)
				app.Close()
			}()
			go func() {
				if err := answers(node, app, source); err != nil && err != io.EOF {
					fmt.Println("a connection ended:", err)
				}
				node.Close()
				app.Close()
			}()
		}
	}()
	return nil
}

// Passes the answers of one connection on.
func answers(node io.Writer, app io.Reader, source *Source) error {
	reader, writer := bufio.NewReader(app), bufio.NewWriter(node)
	ends := false
	for {
		var answer types.Response
		if err := types.ReadMessage(reader, &answer); err != nil {
			writer.Flush()
			return err
		}
		_, flush := answer.Value.(*types.Response_Flush)
		fault := source.In(methodOf(&answer))
		out := &answer
		if fault != nil {
			switch fault.Kind {
			case "withheld":
				fmt.Println("the answer to", fault.Method, "is withheld")
				select {}
			case "exit-after":
				ends = true
			case "exception":
				out = types.ToResponseException(fault.Method + " has an exception, as it was told")
			case "other-type":
				out = types.ToResponseEcho("not what was asked")
			case "too-large":
				return tooLarge(writer)
			}
		}
		if err := types.WriteMessage(out, writer); err != nil {
			return err
		}
		if flush || reader.Buffered() == 0 {
			if err := writer.Flush(); err != nil {
				return err
			}
		}
		if flush && ends {
			os.Exit(exitStatus)
		}
	}
}

// A message that is announced larger than any may be, and sent.
func tooLarge(writer *bufio.Writer) error {
	length := binary.AppendUvarint(nil, tooLargeBytes)
	if _, err := writer.Write(length); err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for sent := 0; sent < tooLargeBytes; sent += len(chunk) {
		if _, err := writer.Write(chunk); err != nil {
			return err
		}
	}
	return writer.Flush()
}

// The method that is answered, by the type of the answer: *types.Response_CheckTx and so on.
func methodOf(answer *types.Response) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", answer.Value), "Response_")
	return name
}
