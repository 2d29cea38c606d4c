// Command faulty is the key-value store of CometBFT behind CometBFT's own socket server, and misbehaves in one
// method in one way: an application as they are written in Go, for `tercet-testnet app-faults`.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cometbft/cometbft/abci/example/kvstore"
	"github.com/cometbft/cometbft/abci/server"
	"github.com/cometbft/cometbft/libs/log"
)

const usage = `The key-value store of CometBFT, which misbehaves in one method in one way:

  faulty --address unix://app.sock --data DIR --method FinalizeBlock --fault wrong-hash
  faulty --address unix://app.sock --data DIR --control FILE     the fault is in FILE, such as "Commit late 3s";
                                                                 without the file the application is well
  faulty --list                                                  every method with its faults
`

func main() {
	address := flag.String("address", "", "where to listen: unix://PATH")
	data := flag.String("data", "", "folder of the data")
	method := flag.String("method", "", "the method that misbehaves")
	kind := flag.String("fault", "", "how it misbehaves")
	by := flag.Duration("by", 3*time.Second, "how late an answer is")
	control := flag.String("control", "", "file that names the fault, read at every call")
	list := flag.Bool("list", false, "list methods and faults")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if *list {
		for _, name := range methods {
			fmt.Println(name, strings.Join(kindsOf(name), " "))
		}
		return
	}
	var fault *Fault
	if *method != "" || *kind != "" {
		found, err := parse(*method, *kind, *by)
		exitOn(err)
		fault = found
	}
	exitOn(serve(*address, *data, &Source{fixed: fault, file: *control}))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(address, data string, source *Source) error {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || data == "" {
		return fmt.Errorf("--address unix://PATH and --data DIR are needed")
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	inner := path + ".inner"
	// What a killed one left behind would keep this one from listening.
	os.Remove(path)
	os.Remove(inner)
	app := &Faulty{Application: kvstore.NewPersistentApplication(data), source: source}
	service := server.NewSocketServer("unix://"+inner, app)
	service.SetLogger(log.NewTMLogger(log.NewSyncWriter(os.Stdout)))
	if err := service.Start(); err != nil {
		return err
	}
	if err := relay(path, inner, source); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	return nil
}
