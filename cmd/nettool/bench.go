package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/bench/workload"
)

func newBenchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a network path costs",
		Args:  args(cobra.NoArgs),
		RunE:  noCommand,
	}
	cmd.AddCommand(newBenchServeCmd(), newBenchRunCmd())
	return cmd
}

func newBenchServeCmd() *cobra.Command {
	var address string
	var cpu int
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve every workload, each on a port of its own",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := netip.ParseAddr(address)
			if err != nil {
				return usageError{fmt.Errorf("read --address: %w", err)}
			}
			all, ctx := errgroup.WithContext(cmd.Context())
			for _, kind := range workload.Kinds() {
				at := netip.AddrPortFrom(addr, workload.Port(kind))
				s, err := workload.Listen(workload.Place{NetNS: -1, CPU: cpu}, kind, at)
				if err != nil {
					return err
				}
				all.Go(func() error {
					err := s.Serve(ctx, func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "nettool:", err) })
					return errors.Join(err, s.Close())
				})
			}
			return all.Wait()
		},
	}
	cmd.Flags().StringVar(&address, "address", "0.0.0.0", "address to listen on")
	cmd.Flags().IntVar(&cpu, "cpu", -1, "the only CPU to use; negative: any")
	return cmd
}

func newBenchRunCmd() *cobra.Command {
	c := workload.Client{Place: workload.Here(), Window: workload.DefaultWindow()}
	var to string
	cmd := &cobra.Command{
		Use:   "run WORKLOAD",
		Short: "Run tcp_rr, udp_rr, tcp_crr or tcp_stream once and print the result as a line of JSON",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if c.Kind, err = workload.ParseKind(args[0]); err != nil {
				return usageError{err}
			}
			addr, err := netip.ParseAddr(to)
			if err != nil {
				return usageError{fmt.Errorf("read --to: %w", err)}
			}
			c.To = netip.AddrPortFrom(addr, workload.Port(c.Kind))
			result, err := c.Run()
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "address of the server, or of a Service before it")
	cmd.Flags().IntVar(&c.Place.CPU, "cpu", -1, "the only CPU to use; negative: any")
	cmd.Flags().DurationVar(&c.Window.WarmUp, "warm-up", c.Window.WarmUp, "how long before the measurement")
	cmd.Flags().DurationVar(&c.Window.Length, "window", c.Window.Length, "how long the measurement")
	return cmd
}
