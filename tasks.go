package longhaul

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"golang.org/x/term"

	"github.com/longhaul-mcp/longhaul/claims"
	"github.com/longhaul-mcp/longhaul/engine"
	"github.com/longhaul-mcp/longhaul/task"
)

// newTasks returns the commands with which an operator looks after tasks.
func newTasks(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "List, read, cancel and delete tasks, whose ever they are",
		Long: `List, read, cancel and delete tasks, whose ever they are. These commands talk to
Temporal directly: no other Longhaul process has to run.
` + temporalEnv,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTasksList(o), newTasksGet(o), newTasksCancel(o), newTasksDelete(o), newTasksPrune(o))
	return cmd
}

// operating is one such command.
type operating struct {
	program   string
	taskQueue string
	json      bool
	yes       bool
	cmd       *cobra.Command
	*engine.Operator
}

// operate makes run a command that is connected to Temporal while it runs.
func operate(o Options, cmd *cobra.Command, run func(context.Context, *operating, []string) error) (*cobra.Command, *operating) {
	op := &operating{program: o.Name, taskQueue: o.TaskQueue, cmd: cmd}
	f := &flags{Options: o}
	f.addDataDir(cmd)
	f.addClaims(cmd)
	cmd.Flags().BoolVar(&op.json, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c, t, err := dialOnce(ctx, o.Name)
		if err != nil {
			return err
		}
		defer c.Close()
		store, err := existingClaims(ctx, f.Options, c, t.Namespace)
		if err != nil {
			return err
		}
		op.Operator, err = engine.NewOperator(engine.OperatorOptions{
			Client: c, Namespace: t.Namespace, TaskQueue: op.taskQueue, Claims: store,
			Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		if err != nil {
			return err
		}
		return run(ctx, op, args)
	}
	return cmd, op
}

// dialOnce connects to the Temporal of the environment, without the patience of
// a server that starts.
func dialOnce(ctx context.Context, program string) (client.Client, client.Options, error) {
	t, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, t, fmt.Errorf("Temporal's client configuration: %w", err)
	}
	if t.Namespace == "" {
		t.Namespace = client.DefaultNamespace
	}
	if t.HostPort == "" {
		t.HostPort = client.DefaultHostPort
	}
	t.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	dial, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.DialContext(dial, t)
	if err != nil {
		return nil, t, fmt.Errorf(`no Temporal at %s: start "%s dev", or set TEMPORAL_ADDRESS (%w)`, t.HostPort, program, err)
	}
	return c, t, nil
}

// existingClaims opens the claims that api and worker keep, if this machine has
// them.
func existingClaims(ctx context.Context, o Options, c client.Client, name string) (claims.Store, error) {
	if o.ClaimsDir == "" && o.ClaimsS3 == "" {
		if _, err := os.Stat(filepath.Join(o.DataDir, "claims")); err != nil {
			return nil, nil
		}
	}
	n, err := describeNamespace(ctx, c, name)
	if err != nil {
		return nil, fmt.Errorf("Temporal's namespace %s: %w", name, err)
	}
	return openClaims(ctx, o, n)
}

// filterFlags are the flags that choose tasks.
type filterFlags struct {
	statuses             []string
	tool, owner          string
	olderThan, newerThan time.Duration
	calls                bool
}

func (f *filterFlags) add(cmd *cobra.Command, op *operating) {
	cmd.Flags().StringSliceVar(&f.statuses, "status", nil, "working, input_required, completed, failed or cancelled; may be repeated")
	cmd.Flags().StringVar(&f.tool, "tool", "", "exposed name of the tool")
	cmd.Flags().StringVar(&f.owner, "owner", "", "name of the caller, as in the tokens file")
	cmd.Flags().BoolVar(&f.calls, "calls", false, "also calls that a client waited for, which are no tasks")
	cmd.Flags().StringVar(&op.taskQueue, "task-queue", op.taskQueue, "Temporal task queue of the tasks")
}

func (f *filterFlags) filter(cmd *cobra.Command) engine.Filter {
	r := engine.Filter{Tool: f.tool, Held: f.calls}
	for _, s := range f.statuses {
		r.Statuses = append(r.Statuses, task.Status(s))
	}
	if cmd.Flags().Changed("owner") {
		owner := task.Owner(f.owner)
		r.Owner = &owner
	}
	return r
}

func newTasksList(o Options) *cobra.Command {
	var (
		f     filterFlags
		limit int
		page  string
	)
	cmd, op := operate(o, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tasks, the running ones first",
		Long: `List tasks: first the running ones, the newest before the older, then the ended
ones, the last to end first. A task is in the list a moment after it was made
or changed.`,
		Example: fmt.Sprintf(`  %[1]s tasks list
  %[1]s tasks list --status input_required --older-than 24h
  %[1]s tasks list --status failed --tool deploy --json | jq .tasks[].id`, o.Name),
		Args: cobra.NoArgs,
	}, func(ctx context.Context, op *operating, _ []string) error {
		token, err := base64.RawURLEncoding.DecodeString(page)
		if err != nil {
			return fmt.Errorf("--page %q is not what an earlier list has printed", page)
		}
		filter, now := f.filter(op.cmd), time.Now()
		if f.olderThan > 0 {
			filter.StartedBefore = now.Add(-f.olderThan)
		}
		if f.newerThan > 0 {
			filter.StartedAfter = now.Add(-f.newerThan)
		}
		listed, err := op.List(ctx, filter, limit, token)
		if err != nil {
			return err
		}
		next := base64.RawURLEncoding.EncodeToString(listed.Next)
		if op.json {
			r := struct {
				Tasks []taskJSON `json:"tasks"`
				Next  string     `json:"next,omitempty"`
			}{Tasks: []taskJSON{}, Next: next}
			for _, t := range listed.Tasks {
				r.Tasks = append(r.Tasks, toJSON(t))
			}
			return op.printJSON(r)
		}
		printTasks(op.cmd.OutOrStdout(), listed.Tasks, now)
		if next != "" {
			fmt.Fprintf(op.cmd.ErrOrStderr(), "There are more: add --page %s\n", next)
		} else if len(listed.Tasks) == 0 {
			fmt.Fprintln(op.cmd.ErrOrStderr(), "No such tasks.")
		}
		return nil
	})
	f.add(cmd, op)
	cmd.Flags().DurationVar(&f.olderThan, "older-than", 0, "only those that began longer ago, like 36h")
	cmd.Flags().DurationVar(&f.newerThan, "newer-than", 0, "only those that began later than so long ago, like 10m")
	cmd.Flags().IntVar(&limit, "limit", 50, "tasks on a page, at most 1000")
	cmd.Flags().StringVar(&page, "page", "", "where to go on, as an earlier list has printed it")
	return cmd
}

func printTasks(w io.Writer, tasks []*engine.Details, now time.Time) {
	if len(tasks) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ID\tSTATUS\tAGE\tENDED\tCALL\tMESSAGE")
	for _, t := range tasks {
		ended := "-"
		if !t.EndedAt.IsZero() {
			ended = ago(now.Sub(t.EndedAt))
		}
		message := t.StatusMessage
		switch {
		case len(t.Inputs) > 0:
			message = "asks: " + t.Inputs[0].Text()
		case message == "" && t.Outcome != nil && t.Outcome.IsError:
			message = "The result is an error."
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Status, ago(now.Sub(t.CreatedAt)), ended, shown(callOf(t), 48), shown(message, 60))
	}
	_ = tw.Flush()
}

func callOf(t *engine.Details) string {
	if t.Call == "" {
		return t.Tool
	}
	return t.Call
}

// shown is s in one line of at most max characters, without what could move a
// terminal's cursor: tools and clients wrote it.
func shown(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > max {
		s = string(r[:max-1]) + "…"
	}
	return s
}

// ago is a time span in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func newTasksGet(o Options) *cobra.Command {
	cmd, _ := operate(o, &cobra.Command{
		Use:     "get ID",
		Short:   "Show a task with its outcome",
		Long:    "Show a task or held call, with its outcome and where it is in Temporal.",
		Example: fmt.Sprintf("  %[1]s tasks get jt7wmxhvb2nr6yzq\n  %[1]s tasks get jt7wmxhvb2nr6yzq --json | jq .outcome.result", o.Name),
		Args:    oneID,
	}, func(ctx context.Context, op *operating, args []string) error {
		t, err := op.Get(ctx, args[0])
		if err != nil {
			return op.about(args[0], err)
		}
		if op.json {
			return op.printJSON(toJSON(t))
		}
		printTask(op.cmd.OutOrStdout(), t, time.Now())
		return nil
	})
	return cmd
}

func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the ID of one task: %s", cmd.UseLine())
	}
	return nil
}

// about says of an error what can be done.
func (op *operating) about(id string, err error) error {
	switch {
	case errors.Is(err, task.ErrNotFound):
		return fmt.Errorf(`there is no task %s; "%s tasks list" shows those there are`, id, op.program)
	case errors.Is(err, task.ErrRunning):
		return fmt.Errorf(`task %s has not ended: "%s tasks cancel %[1]s" first`, id, op.program)
	case errors.Is(err, task.ErrClaimMissing):
		return fmt.Errorf("%w (with --claims-dir, say where api and worker keep it)", err)
	default:
		return err
	}
}

func printTask(w io.Writer, t *engine.Details, now time.Time) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, shown(fmt.Sprintf(format, args...), 1000))
	}
	at := func(name string, t time.Time) {
		if d := now.Sub(t); d >= 0 {
			line(name, "%s (%s ago)", t.Local().Format(time.DateTime), ago(d))
		} else {
			line(name, "%s (in %s)", t.Local().Format(time.DateTime), ago(-d))
		}
	}
	line("ID", "%s", t.ID)
	if t.Held {
		line("Kind", "a call that its client waited for, no task")
	}
	line("Status", "%s", t.Status)
	if t.StatusMessage != "" {
		line("Message", "%s", t.StatusMessage)
	}
	line("Call", "%s", callOf(t))
	line("Owner", "%s (hash)", t.OwnerHash)
	at("Created", t.CreatedAt)
	at("Updated", t.UpdatedAt)
	at("Expires", t.ExpiresAt())
	if !t.EndedAt.IsZero() {
		at("Ended", t.EndedAt)
	}
	if p := t.Progress; p != nil {
		line("Progress", "%v of %v %s", p.Progress, p.Total, p.Message)
	}
	for _, in := range t.Inputs {
		line("Asks", "%s: %s (key %s)", in.Method, in.Text(), in.Key)
	}
	if out := t.Outcome; out != nil {
		kind := string(out.Kind)
		if out.IsError {
			kind += ", an error of the tool"
		}
		line("Outcome", "%s", kind)
	}
	line("Workflow", "%s in namespace %s, task queue %s, run %s", t.ExecutionStatus, t.Namespace, t.TaskQueue, t.RunID)
	line("In the UI", "/namespaces/%s/workflows/%s/%s", t.Namespace, t.ID, t.RunID)
	_ = tw.Flush()
	if out := t.Outcome; out != nil && out.Result != nil {
		fmt.Fprintf(w, "\n%s\n", indented(out.Result))
	} else if out != nil && out.Error != nil {
		e, _ := json.Marshal(out.Error) // its parts are JSON
		fmt.Fprintf(w, "\n%s\n", indented(e))
	}
}

func indented(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return raw
	}
	return b.Bytes()
}

func newTasksCancel(o Options) *cobra.Command {
	var reason string
	cmd, _ := operate(o, &cobra.Command{
		Use:     "cancel ID",
		Short:   "Cancel a task",
		Long:    "Cancel a task or held call. With no worker to do that, its workflow is terminated.",
		Example: fmt.Sprintf(`  %s tasks cancel jt7wmxhvb2nr6yzq --reason "wrong environment"`, o.Name),
		Args:    oneID,
	}, func(ctx context.Context, op *operating, args []string) error {
		t, err := op.Cancel(ctx, args[0], reason)
		switch {
		case errors.Is(err, task.ErrTerminal):
			return fmt.Errorf("task %s had already ended: it is %s", args[0], t.Status)
		case err != nil:
			return op.about(args[0], err)
		}
		return op.done(map[string]any{"id": t.ID, "status": t.Status}, "%s %s", t.ID, t.Status)
	})
	cmd.Flags().StringVar(&reason, "reason", "by an operator", "why; the task's owner can read it")
	return cmd
}

func newTasksDelete(o Options) *cobra.Command {
	cmd, op := operate(o, &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete an ended task",
		Long:    "Delete an ended task or held call, with its history in Temporal. It asks first.",
		Example: fmt.Sprintf("  %[1]s tasks delete jt7wmxhvb2nr6yzq\n  %[1]s tasks delete jt7wmxhvb2nr6yzq --yes", o.Name),
		Args:    oneID,
	}, func(ctx context.Context, op *operating, args []string) error {
		t, err := op.Get(ctx, args[0])
		if err != nil {
			return op.about(args[0], err)
		}
		if t.EndedAt.IsZero() {
			return op.about(t.ID, task.ErrRunning)
		}
		if err := op.confirm("Delete task %s, %s, %s?", t.ID, shown(callOf(t), 48), t.Status); err != nil {
			return err
		}
		if err := op.Delete(ctx, t.ID); err != nil {
			return op.about(t.ID, err)
		}
		return op.done(map[string]any{"deleted": 1}, "%s deleted", t.ID)
	})
	op.addYes()
	return cmd
}

func newTasksPrune(o Options) *cobra.Command {
	var f filterFlags
	cmd, op := operate(o, &cobra.Command{
		Use:   "prune --older-than DURATION",
		Short: "Delete the tasks that ended long ago",
		Long: `Delete the tasks that ended longer ago than --older-than, with their histories
in Temporal, and say how many. It asks first. Expired tasks are deleted by
themselves: this is for those whose owners could still read them.`,
		Example: fmt.Sprintf(`  %[1]s tasks prune --older-than 168h
  %[1]s tasks prune --older-than 1h --status failed --tool deploy --yes`, o.Name),
		Args: cobra.NoArgs,
	}, func(ctx context.Context, op *operating, _ []string) error {
		if !op.cmd.Flags().Changed("older-than") || f.olderThan < 0 {
			return errors.New("say how long ago a task has to have ended: --older-than 24h, for one")
		}
		filter := f.filter(op.cmd)
		filter.EndedBefore = time.Now().Add(-f.olderThan)
		if !op.yes {
			n, err := op.Count(ctx, filter)
			if err != nil {
				return err
			}
			if n == 0 {
				return op.done(map[string]any{"deleted": 0}, "0 tasks deleted")
			}
			if err := op.confirm("Delete %s that ended more than %s ago?", tasks(n), f.olderThan); err != nil {
				return err
			}
		}
		deleted, failed, err := op.Prune(ctx, filter)
		if err != nil {
			return fmt.Errorf("after %s: %w", tasks(deleted), err)
		}
		if err := op.done(map[string]any{"deleted": deleted, "failed": failed}, "%s deleted", tasks(deleted)); err != nil {
			return err
		}
		if failed > 0 {
			return fmt.Errorf("%s could not be deleted", tasks(failed))
		}
		return nil
	})
	f.add(cmd, op)
	op.addYes()
	cmd.Flags().DurationVar(&f.olderThan, "older-than", 0, "how long ago a task has to have ended, like 168h (required)")
	return cmd
}

func tasks(n int) string {
	if n == 1 {
		return "1 task"
	}
	return fmt.Sprintf("%d tasks", n)
}

func (op *operating) addYes() {
	op.cmd.Flags().BoolVar(&op.yes, "yes", false, "do not ask")
}

// confirm asks whoever sits at the terminal. Where nobody does, --yes has to
// have said it.
func (op *operating) confirm(format string, args ...any) error {
	if op.yes {
		return nil
	}
	in, ok := op.cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return errors.New("there is no terminal to ask at, so nothing was deleted: add --yes")
	}
	fmt.Fprintf(op.cmd.ErrOrStderr(), format+" [y/N] ", args...)
	answer, _ := bufio.NewReader(in).ReadString('\n') // no answer is "no"
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return errors.New("nothing was deleted")
	}
}

// done says what was done.
func (op *operating) done(asJSON map[string]any, format string, args ...any) error {
	if op.json {
		return op.printJSON(asJSON)
	}
	_, err := fmt.Fprintf(op.cmd.OutOrStdout(), format+"\n", args...)
	return err
}

func (op *operating) printJSON(v any) error {
	enc := json.NewEncoder(op.cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// taskJSON is a task as --json prints it. Members are added, never changed.
type taskJSON struct {
	ID            string              `json:"id"`
	Held          bool                `json:"held,omitempty"`
	Status        task.Status         `json:"status"`
	StatusMessage string              `json:"statusMessage,omitempty"`
	Tool          string              `json:"tool"`
	Call          string              `json:"call,omitempty"`
	OwnerHash     string              `json:"ownerHash"`
	CreatedAt     time.Time           `json:"createdAt"`
	UpdatedAt     time.Time           `json:"updatedAt"`
	ExpiresAt     time.Time           `json:"expiresAt"`
	EndedAt       time.Time           `json:"endedAt,omitzero"`
	Progress      *task.Progress      `json:"progress,omitempty"`
	Inputs        []task.InputRequest `json:"inputs,omitempty"`
	Outcome       *task.Outcome       `json:"outcome,omitempty"`
	Temporal      struct {
		Namespace  string `json:"namespace"`
		TaskQueue  string `json:"taskQueue"`
		WorkflowID string `json:"workflowId"`
		RunID      string `json:"runId"`
		FirstRunID string `json:"firstRunId,omitempty"`
		Status     string `json:"status"`
	} `json:"temporal"`
}

func toJSON(t *engine.Details) taskJSON {
	r := taskJSON{
		ID: t.ID, Held: t.Held, Status: t.Status, StatusMessage: t.StatusMessage, Tool: t.Tool, Call: t.Call, OwnerHash: t.OwnerHash,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, ExpiresAt: t.ExpiresAt(), EndedAt: t.EndedAt,
		Progress: t.Progress, Inputs: t.Inputs, Outcome: t.Outcome,
	}
	r.Temporal.Namespace, r.Temporal.TaskQueue, r.Temporal.WorkflowID = t.Namespace, t.TaskQueue, t.ID
	r.Temporal.RunID, r.Temporal.FirstRunID, r.Temporal.Status = t.RunID, t.FirstRunID, t.ExecutionStatus
	return r
}
