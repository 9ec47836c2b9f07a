//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// uiUpdate is as much as this test reads of what lab ui tells a browser.
type uiUpdate struct {
	Groups []struct{ ID, Namespace, Name string }
	Edges  []struct {
		From, To, Protocol string
		Seen               int64 // milliseconds since 1970
	}
}

// testUI has lab ui show a ping between two pods, and draw the way of a packet. What the page does with it is
// tested in a browser with a lab of a test's own.
func testUI(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, _, errs := labCommand(context.Background(), "ui", name)
	server.Stdout = nil
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
	}()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("lab ui does not say where it serves: %v\n%s", err, errs)
	}
	url = strings.TrimSpace(url)
	ask := func(method, at string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, method, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	without := ask("GET", url[:strings.LastIndex(strings.TrimSuffix(url, "/"), "/")+1])
	without.Body.Close()
	if without.StatusCode != http.StatusForbidden {
		t.Errorf("without the token it answers with %s", without.Status)
	}

	updates := ask("GET", url+"updates")
	defer updates.Body.Close()
	told := bufio.NewScanner(updates.Body)
	told.Buffer(nil, 16<<20)
	peer := kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+name+"-worker", "-o", "jsonpath={.items[0].metadata.name}")
	address := kubectl(t, name, "get", "pod", peer, "-o", "jsonpath={.status.podIP}")
	began := time.Now() // nodes and tests have the same clock
	mustLab(t, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", address)
	answered := time.Now()
	groups, shown := map[string]string{}, false
	for !shown && told.Scan() {
		data, is := strings.CutPrefix(told.Text(), "data: ")
		if !is {
			continue
		}
		var u uiUpdate
		if err := json.Unmarshal([]byte(data), &u); err != nil {
			t.Fatal(err)
		}
		for _, g := range u.Groups {
			groups[g.ID] = g.Namespace + "/" + g.Name
		}
		for _, e := range u.Edges {
			shown = shown || e.Protocol == "icmp" && e.Seen >= began.UnixMilli() && groups[e.From] == "default/cni" && groups[e.To] == "default/demo"
		}
	}
	if !shown {
		t.Errorf("the ping is not shown; groups %v, %v", groups, told.Err())
	}
	t.Logf("the ping is shown %s after its answer", time.Since(answered))

	drawn := ask("POST", url+"passport?from=default/cni&to=default/"+peer+"&protocol=icmp")
	drawing, err := io.ReadAll(drawn.Body)
	drawn.Body.Close()
	if err != nil || drawn.StatusCode != http.StatusOK || !strings.Contains(string(drawing), "lab_from_pod") {
		t.Errorf("the way of a packet: %s, %v: %.400s", drawn.Status, err, drawing)
	}
	none := ask("POST", url+"passport?from=default/nobody&to=default/"+peer+"&protocol=icmp")
	reason, err := io.ReadAll(none.Body)
	none.Body.Close()
	if err != nil || none.StatusCode != http.StatusUnprocessableEntity || strings.Count(string(reason), "\n") != 1 || !strings.Contains(string(reason), "nobody") {
		t.Errorf("the way of a packet of nobody: %s, %v: %s", none.Status, err, reason)
	}

	if err := server.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err, ended = server.Wait(), true
	t.Logf("interrupted, it ends with %v and says %q", err, errs)
	if !strings.Contains(errs.String(), "serving the page of lab "+name) || strings.Contains(errs.String(), "panic") {
		t.Errorf("it says %s", errs)
	}
}
