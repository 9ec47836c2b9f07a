package main

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/labs"
)

// flowServer is what lab flows --serve does.
type flowServer struct {
	on     bool
	listen string
	at     netip.AddrPort
	files  mtls.Files
	secure *tls.Config
}

// flowsPort is where clients of the flow API look for it.
const flowsPort = "127.0.0.1:4245"

func (s *flowServer) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&s.on, "serve", false, "speak the flow API observer.Observer over gRPC, for clients that know it, until interrupted")
	f.StringVar(&s.listen, "listen", flowsPort, "with --serve: the address and port to listen at, of this machine alone unless TLS is asked for")
	f.StringVar(&s.files.Cert, "tls-cert", "", "with --serve: the server's certificate, as PEM; with the other two it makes TLS mutual")
	f.StringVar(&s.files.Key, "tls-key", "", "with --serve: the key of that certificate")
	f.StringVar(&s.files.CA, "tls-client-ca", "", "with --serve: the CA that has signed clients' certificates")
	must(cmd.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions))
}

// check looks at the flags before anything is done.
func (s *flowServer) check(f *pflag.FlagSet) error {
	own := map[string]bool{"serve": true, "listen": true, "tls-cert": true, "tls-key": true, "tls-client-ca": true, "name": true}
	var err error
	f.Visit(func(flag *pflag.Flag) {
		switch {
		case err != nil:
		case s.on && !own[flag.Name]:
			err = fmt.Errorf("--%s is for flows that are printed, and --serve prints none: clients of the API pick for themselves", flag.Name)
		case !s.on && own[flag.Name] && flag.Name != "name":
			err = fmt.Errorf("--%s is for --serve", flag.Name)
		}
	})
	if err != nil || !s.on {
		return err
	}
	if s.at, err = parseListen(s.listen, flowsPort); err != nil {
		return err
	}
	if s.files != (mtls.Files{}) {
		if s.secure, err = s.files.Server(time.Now(), ""); err != nil {
			return err
		}
	}
	if s.secure == nil && !s.at.Addr().IsLoopback() {
		return fmt.Errorf("listen at %s: without TLS only an address of this machine alone, as %s, as whoever connects sees the lab's flows", s.listen, flowsPort)
	}
	return nil
}

func (s *flowServer) run(cmd *cobra.Command, l *labs.Lab) error {
	listener, err := listenAt(cmd.Context(), s.at)
	if err != nil {
		return err
	}
	kind := "without TLS"
	if s.secure != nil {
		kind = "with mutual TLS"
	}
	progressLine(cmd.ErrOrStderr(), "serving the flows of lab %s at %s, %s", l.Name, listener.Addr(), kind)
	return l.ServeFlows(cmd.Context(), listener, s.secure)
}
