package workload

import (
	"errors"
	"net/netip"
	"runtime/debug"
)

// Pair is a client, and where to serve it.
type Pair struct {
	Client Client
	// Server is the server's place; its CPU ought to be the client's.
	Server Place
	// Bind is where the server listens.
	Bind netip.AddrPort
}

// Measure runs one session between a server and a client of this process.
func (p Pair) Measure() (Result, error) {
	s, err := Listen(p.Server, p.Client.Kind, p.Bind)
	if err != nil {
		return Result{}, err
	}
	// A collection would stop both threads.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	served := make(chan error, 1)
	go func() { served <- s.ServeOne() }()
	r, err := p.Client.Run()
	if err != nil {
		// Only after the server has ended, or its thread would go on with a descriptor that is another's by then.
		return r, errors.Join(err, s.interrupt(), ignoreNoClient(<-served), s.Close())
	}
	return r, errors.Join(<-served, s.Close())
}

func ignoreNoClient(err error) error {
	if errors.Is(err, errNoClient) {
		return nil
	}
	return err
}
