package serve

import (
	"fmt"
	"net/http"
)

// Probes answers the kubelet's: /healthz and /readyz with what is wrong, if something is. Healthy is nil where it is enough
// that the process answers.
func Probes(healthy, ready func() error) http.Handler {
	mux := http.NewServeMux()
	for path, ask := range map[string]func() error{"/healthz": healthy, "/readyz": ready} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if ask != nil {
				if err := ask(); err != nil {
					http.Error(w, err.Error(), http.StatusServiceUnavailable)
					return
				}
			}
			fmt.Fprintln(w, "ok")
		})
	}
	return mux
}
