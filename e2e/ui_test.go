//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"wirelab.dev/wirelab/internal/browsertest"
)

// testUI looks at the page of lab ui with a browser: a ping is an arrow, what is dropped is red, the way of a packet is drawn, and
// so is how the nodes carry packets. With WIRELAB_TEST_PICTURES it keeps pictures of the page in that folder.
func testUI(t *testing.T, name string) {
	url := startUI(t, name)
	pictures := func(b *browsertest.Browser, file string) {
		if folder := os.Getenv("WIRELAB_TEST_PICTURES"); folder != "" {
			b.Picture(filepath.Join(folder, file))
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url[:strings.LastIndex(strings.TrimSuffix(url, "/"), "/")+1], nil)
	if err != nil {
		t.Fatal(err)
	}
	without, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	without.Body.Close()
	if without.StatusCode != http.StatusForbidden {
		t.Errorf("without the token it answers with %s", without.Status)
	}

	b := browsertest.Open(t, url)
	const patience = 30 * time.Second
	b.Within(patience, "all nodes tell", `document.querySelectorAll('#nodes [data-state="live"]').length === 3`)
	peer := kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+name+"-worker", "-o", "jsonpath={.items[0].metadata.name}")
	address := kubectl(t, name, "get", "pod", peer, "-o", "jsonpath={.status.podIP}")
	mustLab(t, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", address)
	answered := time.Now()
	b.Within(patience, "the ping is an arrow", `document.getElementById('edges').innerText.includes('cni to demo, icmp')`)
	t.Logf("the ping is shown %s after its answer", time.Since(answered))

	// Of the node's podCIDR the highest address is nobody's: addresses are given out from below.
	visit := "for i in 1 2 3 4 5; do curl -s -o /dev/null --max-time 5 http://demo:8080/; done; ping -c 1 -W 1 ${A%.*}.254; true"
	mustLab(t, "shell", "--name", name, "cni", "--", "sh", "-c", "A="+kubectl(t, name, "get", "pod", "cni", "-o", "jsonpath={.status.podIP}")+"; "+visit)
	b.Within(patience, "visits of the demo are an arrow", `document.getElementById('edges').innerText.includes('cni to demo, tcp')`)
	b.Within(patience, "what is dropped is red", `document.querySelectorAll('tr.dropped').length > 0`)
	pictures(b, "ui.webp")

	b.Run(chromedp.Focus("#filter"), chromedp.SendKeys("#filter", "icmp pod:"+peer))
	b.Within(patience, "the filter leaves the ping", `document.querySelectorAll('#rows tr').length === 1`)
	b.Run(chromedp.Click(`#rows tr`), chromedp.Click(`#explain`))
	b.Within(patience, "its way is drawn", `document.getElementById('passport-picture').naturalWidth > 0`)
	pictures(b, "ui-passport.webp")
	b.Run(chromedp.Click("#passport-close"), chromedp.Click("#datapath-open"))
	b.Within(patience, "how each node carries packets is drawn", `document.querySelectorAll('.plan').length === 3 &&
		[...document.querySelectorAll('.plan')].every((p) => [...p.querySelectorAll('.box.pods .chip')].map((e) => e.textContent).join() === 'lab_from_pod') &&
		document.querySelectorAll('.plan .wrong').length === 0`)
	pictures(b, "ui-datapath.webp")
}

// startUI has lab ui serve a lab's page until the test ends, and returns its URL.
func startUI(t *testing.T, name string) string {
	server, _, errs := labCommand(context.Background(), "ui", name)
	server.Stdout = nil
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the browser has gone
		if err := server.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		late := time.AfterFunc(time.Minute, func() { _ = server.Process.Kill() })
		defer late.Stop()
		if err := server.Wait(); err != nil || !strings.Contains(errs.String(), "serving the page of lab "+name) || strings.Contains(errs.String(), "panic") {
			t.Errorf("interrupted, it ends with %v and says %s", err, errs)
		}
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("lab ui does not say where it serves: %v\n%s", err, errs)
	}
	return strings.TrimSpace(url)
}
