package agent

import (
	"errors"
	"net/http"
	"strings"

	"wirelab.dev/wirelab/internal/serve"
)

// healthHandler answers the kubelet's probes, as ready only while nothing keeps pods on this node from working.
func healthHandler(problems func() []string) http.Handler {
	return serve.Probes(nil, func() error {
		if found := problems(); len(found) > 0 {
			return errors.New(strings.Join(found, "\n"))
		}
		return nil
	})
}
