package activities

import (
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
)

// Temporal's clock and this machine's need not agree.
func TestDeadlineIsATimeToWait(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run("Temporal's clock is a day "+name, func(t *testing.T) {
			scheduled := time.Now().Add(off)
			got := time.Until(deadline(activity.Info{
				ScheduleToCloseTimeout: time.Hour,
				ScheduledTime:          scheduled,
				StartedTime:            scheduled.Add(20 * time.Minute),
				Deadline:               scheduled.Add(time.Hour),
			}))
			if got > 40*time.Minute || got < 39*time.Minute {
				t.Errorf("%s are left", got)
			}
		})
	}
}
