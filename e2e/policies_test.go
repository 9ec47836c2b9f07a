//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

const denyAll = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: e2e-deny, namespace: default}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
`

// testPolicies holds that who makes a NetworkPolicy is told that nobody enforces it: by one event, however
// many agents there are, and by the lab's status.
func testPolicies(t *testing.T, lab string) {
	const none = "none; they would not be enforced"
	if text := mustLab(t, "status", lab).stdout; !strings.Contains(text, none) {
		t.Fatalf("without a policy there is no %q in\n%s", none, text)
	}
	apply(t, lab, denyAll)
	t.Cleanup(func() { kubectl(t, lab, "delete", "networkpolicy", "e2e-deny", "--ignore-not-found") })
	events := func() string {
		return kubectl(t, lab, "get", "events", "--field-selector", "involvedObject.name=e2e-deny", "-o",
			`jsonpath={range .items[*]}{.type} {.reason} {.involvedObject.kind}{"\n"}{end}`)
	}
	const want = "Warning NotEnforced NetworkPolicy"
	eventually(t, time.Minute, "an event about the policy", func() string {
		if got := strings.TrimSpace(events()); got != want {
			return "there is " + got
		}
		return ""
	})
	eventually(t, time.Minute, "the policy in the status", func() string {
		if text := mustLab(t, "status", lab).stdout; !strings.Contains(text, "1 NetworkPolicy is NOT enforced") {
			return text
		}
		return ""
	})
	kubectl(t, lab, "delete", "networkpolicy", "e2e-deny")
	eventually(t, time.Minute, "no policy in the status", func() string {
		if text := mustLab(t, "status", lab).stdout; !strings.Contains(text, none) {
			return text
		}
		return ""
	})
}
