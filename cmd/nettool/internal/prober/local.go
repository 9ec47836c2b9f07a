package prober

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"

	"wirelab.dev/wirelab/cmd/nettool/internal/server"
	"wirelab.dev/wirelab/verify/probe"
)

// serve answers clients until it is ended, which is no failure.
func (p Prober) serve(ctx context.Context, spec probe.Serve, ready func(probe.Reply)) (*probe.ServeResult, error) {
	s, err := server.Listen(ctx, spec.Address, p.Identity)
	if err != nil {
		return nil, err
	}
	result := &probe.ServeResult{Address: s.Addr()}
	ready(probe.Reply{Serve: result})
	return result, s.Serve(ctx)
}

func run(ctx context.Context, spec probe.Exec) (*probe.ExecResult, error) {
	if len(spec.Argv) == 0 {
		return nil, errors.New("exec needs a command")
	}
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, spec.Argv[0], spec.Argv[1:]...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	result := &probe.ExecResult{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		// Not wrapped: a slow command is no finding about the network.
		return result, fmt.Errorf("run %s: %s", spec.Argv[0], context.Cause(ctx))
	case errors.As(err, &exit):
		result.Code = exit.ExitCode()
	case err != nil:
		return nil, fmt.Errorf("run %s: %w", spec.Argv[0], err)
	}
	return result, nil
}
