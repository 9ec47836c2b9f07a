package ui

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/browsertest"
)

// browse opens the page of a server.
func browse(t *testing.T, s *Server) *browsertest.Browser {
	t.Helper()
	b := browsertest.Open(t, s.URL())
	b.Run(chromedp.WaitVisible(`#state[data-state="live"]`))
	return b
}

// soon is how long the page may take for what a person would not wait for, on a machine that has other tests to run.
const soon = 20 * time.Second

// cy is the graph that the map draws.
const cy = `document.getElementById('map')._cyreg.cy`

// TestPage looks at the page as a person does: a ping appears as an arrow, a drop turns it red, a filter leaves the rest out,
// and a click says what is behind it.
func TestPage(t *testing.T) {
	s, f := serving(t, "l-control-plane", "l-worker")
	b := browse(t, s)
	ping := passes("icmp", podEnd("default/cni", 0), podEnd("default/demo-x7x2k", 0))
	f.tell(ping, answer(ping))
	b.Within(2*time.Second, "a ping is an arrow", cy+`.edges('[protocol = "icmp"]').length === 1`)
	if got := browsertest.Ask[string](b, cy+`.edges()[0].source().data('label') + ' > ' + `+cy+`.edges()[0].target().data('label')`); got != "cni\ndefault · 1 pod > demo\ndefault · 1 pod" {
		t.Errorf("it goes from %q", got)
	}
	colour := cy + `.edges('[protocol = "icmp"]')[0].style('line-color')`
	fine := browsertest.Ask[string](b, colour)
	red := browsertest.Ask[string](b, `(() => { const e = document.createElement('p'); e.style.color = 'var(--red)'; document.body.append(e);
		const c = getComputedStyle(e).color; e.remove(); return c.replaceAll(' ', ''); })()`)
	if fine == red {
		t.Fatalf("it is red (%s) before there is a drop", red)
	}
	f.tell(dropped(passes("icmp", podEnd("default/cni", 0), podEnd("default/demo-x7x2k", 0)), "policy-denied"))
	b.Within(soon, "a drop turns it red", fmt.Sprintf(`%s.replaceAll(' ', '') === %q && document.querySelectorAll('tr.dropped').length === 1`, colour, red))

	f.tell(passes("tcp", podEnd("shop/web-7db6d8ff4d-x2x4k", 40000), podEnd("shop/db-0", 5432)))
	b.Within(soon, "three flows are three lines", `document.querySelectorAll('#rows tr').length === 3`)
	// One event, as of a keyboard: chromedp would type the slash that the page has taken as a command.
	browsertest.Call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Text: "/"})
	b.Run(chromedp.KeyEvent("ns:shop 5432"))
	b.Within(soon, "the filter leaves the others out",
		`document.activeElement.id === 'filter' && document.querySelectorAll('#rows tr').length === 1 && `+cy+`.edges('.out').length === 1 && `+cy+`.edges(':visible').not('.out').data('protocol') === 'tcp'`)
	b.Run(chromedp.KeyEvent(kb.Escape))
	b.Within(soon, "Escape ends the filter", `document.querySelectorAll('#rows tr').length === 3 && `+cy+`.edges('.out').length === 0`)
	b.Run(chromedp.Click(`#verdict input[value="dropped"] + span`))
	b.Within(soon, "only what was dropped", `document.querySelectorAll('#rows tr').length === 1 && document.querySelector('#rows tr').innerText.includes('policy-denied')`)
	b.Run(chromedp.Click(`#rows tr`))
	b.Within(soon, "a click says more", `document.getElementById('details').innerText.replace(/\\\s+/g, '').includes('lab explain default/cni default/demo-x7x2k --proto icmp --name l')`)
	b.Run(chromedp.Click(`#explain`))
	b.Within(soon, "its way is drawn", `document.getElementById('passport').open && document.getElementById('passport-picture').naturalWidth === 100 &&
		document.getElementById('passport-picture').alt === 'the way of default/cni → default/demo-x7x2k, icmp'`)
	b.Run(chromedp.KeyEvent(kb.Escape))
	b.Within(soon, "Escape closes the drawing alone", `!document.getElementById('passport').open && !document.getElementById('details').hidden`)
	b.Run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent(kb.Escape))
	b.Within(soon, "nothing is chosen or left out", `document.getElementById('details').hidden && document.querySelectorAll('#rows tr').length === 3`)
	b.Run(chromedp.Focus(`#map`), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.Enter))
	b.Within(soon, "keys open a card", `!document.getElementById('details').hidden && document.querySelector('#details h2').innerText.includes('/')`)

	probes := passes("tcp", api.FlowEnd{Name: "health", Addr: netip.MustParseAddr("10.0.1.2"), Port: 40000}, api.FlowEnd{Name: "remote-node", Addr: netip.MustParseAddr("172.18.0.3"), Port: 4240})
	asks := passes("udp", podEnd("default/cni", 40000), api.FlowEnd{Name: "world", Addr: netip.MustParseAddr("10.96.0.10"), Port: 53})
	f.tell(probes, asks)
	b.Within(soon, "a Service has its name, and probes are left out", `document.getElementById('edges').innerText.includes('cni to kube-dns, udp 53') &&
		[...document.querySelectorAll('#rows .end')].some((e) => e.innerText === 'Service kube-system/kube-dns 10.96.0.10') && !document.getElementById('edges').innerText.includes('health')`)
	b.Run(chromedp.Click(`#health`))
	b.Within(soon, "probes are shown when they are asked for", `document.getElementById('edges').innerText.includes('health to nodes, tcp 4240')`)
	b.Run(chromedp.KeyEvent("d"))
	b.Within(soon, "the datapath is drawn", `[...document.querySelectorAll('.plan .box.passed b')].map((e) => e.textContent).join() === '2 pods, each with a veth lxc…,eth0' &&
		[...document.querySelectorAll('.plan .chip')].length === 6 && document.querySelector('.plan > .wrong').textContent === 'no agent pod on this node'`)
	b.Run(chromedp.KeyEvent(kb.Escape))
	b.Within(soon, "Escape closes it", `!document.getElementById('datapath').open`)

	f.heard("l-worker", fmt.Errorf("no agent pod on this node"))
	b.Within(soon, "a node is away", `document.querySelector('#nodes [data-state="away"]')?.innerText === 'worker is away'`)
}

// TestCrowdedMap: of many arrows those that have faded have no words, so that those of the others can be read, until one is
// chosen or a filter leaves it.
func TestCrowdedMap(t *testing.T) {
	s, f := serving(t, "l-control-plane", "l-worker")
	b := browse(t, s)
	const arrows = 14
	tell := func(n int) { f.tell(passes("tcp", podEnd(fmt.Sprintf("a/from%c", 'a'+n), 40000), podEnd("b/to", 80))) }
	for n := range arrows {
		tell(n)
	}
	words := cy + `.edges().filter((e) => e.style('label') !== '').length`
	b.Within(soon, "each arrow has words", words+fmt.Sprintf(` === %d`, arrows))
	b.Within(soon, "words go when nothing goes along", words+` === 0`)
	tell(0)
	b.Within(soon, "and come back", words+` === 1`)
	browsertest.Call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Text: "/"})
	b.Run(chromedp.KeyEvent("fromb"))
	b.Within(soon, "what a filter leaves has words", cy+`.edges().not('.out').length === 1 && `+cy+`.edges().not('.out')[0].style('label') !== ''`)
}

// TestPageOfMany draws a lab of 500 pods with 500 flows a second, and goes on drawing.
func TestPageOfMany(t *testing.T) {
	s, f := serving(t, "l-control-plane", "l-worker", "l-worker2")
	lab := newShop(500)
	stop := make(chan struct{})
	var telling sync.WaitGroup
	defer telling.Wait()
	defer close(stop)
	telling.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-tick.C:
				for range 10 {
					n++
					f.tell(lab.flow(n))
				}
			case <-stop:
				return
			}
		}
	})
	b := browse(t, s)
	b.Within(20*time.Second, "all pods are there", cy+`.nodes().reduce((sum, node) => sum + node.data('group').pods.length, 0) >= 500`)
	b.Within(20*time.Second, "it says how many flows", `Number(document.getElementById('rate').innerText) > 250`)
	browsertest.Ask[int](b, `window.drawn = 0, requestAnimationFrame(function next() { window.drawn++; requestAnimationFrame(next); }), 0`)
	began := time.Now()
	time.Sleep(3 * time.Second)
	frames := browsertest.Ask[float64](b, `window.drawn`) / time.Since(began).Seconds()
	t.Logf("%.1f frames a second", frames)
	if frames == 0 {
		t.Error("it draws no more")
	}
}
