package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/time/rate"

	"wirelab.dev/wirelab/datapath"
)

// wake triggers what keeps the parts of the datapath that something on the
// node has changed.
func (r *reconcilers) wake(parts datapath.Parts) {
	for part, woken := range map[datapath.Parts][]interface{ Trigger() }{
		datapath.PartSysctls:   {r.sysctls},
		datapath.PartDevices:   {r.devices},
		datapath.PartEndpoints: {r.endpoints},
		datapath.PartRoutes:    {r.routes},
		datapath.PartNAT:       {r.masquerade, r.hostPorts},
		datapath.PartRaw:       {r.untracked},
		datapath.PartServices:  {r.services, r.hostPorts},
	} {
		if parts&part == 0 {
			continue
		}
		for _, w := range woken {
			w.Trigger()
		}
	}
}

const (
	// filesOften bounds how often a second changed CNI files are looked at.
	filesOften = 5
	// dirsAgain is when a directory is looked for that was not there.
	dirsAgain = 250 * time.Millisecond
)

// follow calls wake when somebody may have changed the plugin or its
// configuration, by inotify on the directories that they are in: files are
// replaced, and with them what could be watched of them. It returns when ctx
// is done.
func (f cniFiles) follow(ctx context.Context, wake func(), log *slog.Logger) error {
	w, err := fsnotify.NewWatcher()
	if err != nil { // the user's limit, of all programs together
		log.Warn("changes of the CNI files are seen once a minute only: raise fs.inotify.max_user_instances", "err", err)
		return nil
	}
	defer w.Close()
	limit := rate.NewLimiter(filesOften, 1)
	again := time.NewTicker(dirsAgain)
	defer again.Stop()
	missing := map[string]bool{filepath.Dir(f.conf): true, filepath.Dir(f.plugin): true}
	for {
		for dir := range missing {
			if w.Add(dir) == nil {
				delete(missing, dir)
				wake() // what happened before counts as a change
			}
		}
		var retry <-chan time.Time
		if len(missing) > 0 {
			retry = again.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
			continue
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch the CNI files: %w", err)
			}
		case e := <-w.Events:
			switch dir := filepath.Clean(e.Name); {
			case dir == filepath.Dir(f.conf), dir == filepath.Dir(f.plugin):
				if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
					missing[dir] = true
				}
			case e.Name != f.conf && e.Name != f.plugin:
				continue
			}
		}
		wake()
		if limit.Wait(ctx) != nil {
			return nil
		}
	}
}
