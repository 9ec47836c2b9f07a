package operator

import (
	"net/http"
)

// Handler answers the kubelet's probes.
func (o *Operator) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, ask := range map[string]func() error{"/healthz": o.Healthy, "/readyz": o.Ready} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := ask(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			w.Write([]byte("ok\n")) //nolint:errcheck // who asked is gone
		})
	}
	return mux
}
