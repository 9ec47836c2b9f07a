package interrupt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestCleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, second := context.WithCancel(t.Context())
		ctx, first := context.WithCancel(WithStop(t.Context(), stop))
		cctx, cancel := Cleanup(ctx, time.Minute)
		defer cancel()
		first()
		synctest.Wait()
		if cctx.Err() != nil || Stopped(cctx) {
			t.Error("the clean-up ended with the command")
		}
		second()
		synctest.Wait()
		if !errors.Is(context.Cause(cctx), ErrStopped) || !Stopped(cctx) || !Stopped(ctx) {
			t.Errorf("after the second: %v", context.Cause(cctx))
		}
		plain, cancel := Cleanup(context.Background(), time.Minute)
		defer cancel()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !errors.Is(plain.Err(), context.DeadlineExceeded) {
			t.Errorf("after its time: %v", plain.Err())
		}
	})
}
