package agent

import (
	"fmt"
	"net/http"
	"strings"
)

// readiness says what keeps pods on this node from working, a sentence each;
// nothing when they do.
type readiness func() []string

// healthHandler answers the kubelet's probes: /healthz as long as the process
// serves at all, /readyz by ready.
func healthHandler(ready readiness) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if problems := ready(); len(problems) > 0 {
			http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
