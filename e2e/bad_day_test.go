//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// testPageOnBadDay types the profile's page along after all nodes were restarted at once, as by a restart of Docker, and lab up has
// brought the lab back, beside a load of 20.
func testPageOnBadDay(t *testing.T, name, profile string) {
	if _, err := command("docker", append([]string{"restart"}, strings.Fields(containerIDs(t, name))...)...); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var back upResult
	labJSON(t, &back, up(profile, name)...)
	wantVerified(t, back)
	if back.Created {
		t.Error("lab up has made the lab anew")
	}
	t.Logf("back and verified in %.1f s", time.Since(began).Seconds())
	besideLoad(t)
	began = time.Now()
	typePage(t, name, profile, walkthrough(profile))
	t.Logf("typed along in %.1f s", time.Since(began).Seconds())
}
