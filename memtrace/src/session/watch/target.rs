//! Something that is watched: a control group or a process, and what is remembered of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    inside::Inside,
    job::Running,
    looking::{Differences, Wants, of_group, of_process, pressure_file, with_pressure},
    member::{Member, Members},
};
use crate::{
    inspection::Inspection,
    model::{
        census::Census,
        incident::{Fired, OomKill},
    },
    sys::{
        cgroup::{self, Group, GroupError, GroupUsage},
        procfs::{ProcFs, Process},
    },
    trigger::{Condition, Reading, Watchdog},
    watch::status::{Gauge, TargetStatus},
};

/// Nothing is said of the time between looks that are further apart.
pub(super) const LONGEST_GAP_NS: u64 = 15_000_000_000;

/// The room of a process is asked for this often: limits may change.
const ROOM_NS: u64 = 10_000_000_000;

/// The heap is walked at most this often.
const WALK_NS: u64 = 5_000_000_000;

/// It is walked when the process has grown by this part of its room since.
const WALK_SHARE: u64 = 10;

/// Those that left are remembered for the news of their kill, at most so many.
const MOST_LEFT: usize = 64;

/// What is watched.
pub(super) enum Kind {
    /// A process.
    Process(u32),
    /// All of a group.
    Group(Group),
}

/// A condition that is met.
pub(super) struct Due {
    pub(super) condition: Condition,
    /// By a group in the one that is watched, which has a limit of its own.
    pub(super) inside: Option<String>,
}

/// It is not there any more.
#[derive(Debug)]
pub(super) struct Gone;

/// See the module.
pub(super) struct Target {
    pub(super) kind: Kind,
    /// The group that counts its kills.
    pub(super) group: Option<Group>,
    pub(super) status: TargetStatus,
    pub(super) members: Members,
    pub(super) running: Option<Running>,
    /// Nothing that is about all of it fires before.
    pub(super) cool_until_ns: u64,
    inside: Inside,
    /// The last look at the heap, and of whom.
    census: Option<(u32, Census)>,
    walk_begun_ns: Option<u64>,
    is_walking: bool,
    walked_bytes: u64,
    trapped_bytes: Option<u64>,
    watchdog: Watchdog,
    pub(super) before: Differences,
    pressure: PathBuf,
    room: Option<(u64, Option<u64>)>,
    kills_counted: Option<u64>,
    last: Option<GroupUsage>,
    /// Who went of late, and when.
    pub(super) left: Vec<(u64, Member)>,
    /// Nobody is followed before.
    pub(super) follow_after_ns: u64,
}

impl Target {
    /// A process.
    pub(super) fn process(proc: &ProcFs, process: &Process, conditions: &[Condition]) -> Self {
        let group = charged(proc, process.pid);
        let status = TargetStatus {
            name: process.command.clone(),
            pid: Some(process.pid),
            ..TargetStatus::default()
        };
        Self::new(Kind::Process(process.pid), group, status, conditions)
    }

    /// A group.
    pub(super) fn group(group: Group, conditions: &[Condition]) -> Self {
        let status = TargetStatus { name: group.name().to_owned(), ..TargetStatus::default() };
        let counting = Some(group.clone()).filter(Group::has_memory);
        Self::new(Kind::Group(group), counting, status, conditions)
    }

    fn new(
        kind: Kind,
        group: Option<Group>,
        status: TargetStatus,
        conditions: &[Condition],
    ) -> Self {
        let pressure = match &kind {
            Kind::Group(group) => pressure_file(group.pressure_file()),
            Kind::Process(_) => pressure_file(None),
        };
        let mut target = Self {
            kind,
            group,
            status,
            members: Members::default(),
            running: None,
            cool_until_ns: 0,
            inside: Inside::new(conditions),
            census: None,
            walk_begun_ns: None,
            is_walking: false,
            walked_bytes: 0,
            trapped_bytes: None,
            watchdog: Watchdog::new(conditions, LONGEST_GAP_NS),
            before: Differences::default(),
            pressure,
            room: None,
            kills_counted: None,
            last: None,
            left: Vec::new(),
            follow_after_ns: 0,
        };
        target.kills_counted = target.usage().and_then(|usage| usage.oom_kills);
        target
    }

    /// For messages.
    pub(super) fn title(&self) -> String {
        match self.status.pid {
            Some(pid) => format!("{} ({pid})", self.status.name),
            None => self.status.name.clone(),
        }
    }

    fn usage(&self) -> Option<GroupUsage> {
        self.group.as_ref().and_then(|group| group.usage().ok().flatten())
    }

    /// It has gone, and another one may come in its place: conditions are measured anew.
    pub(super) fn forget(&mut self) {
        self.before = Differences::default();
        self.watchdog.forget();
        self.inside.forget();
    }

    /// Looks at it; what fires.
    pub(super) fn look(
        &mut self,
        proc: &ProcFs,
        wants: Wants,
        now_ns: u64,
    ) -> Result<Option<Due>, Gone> {
        self.meet(proc, now_ns)?;
        let reading = self.reading(proc, wants, now_ns)?;
        self.status.processes = self.members.len() as u64;
        self.status.rss.set(reading.rss_bytes);
        self.status.limit_bytes = reading.room_bytes;
        self.status.swap_bytes = reading.swap_bytes;
        let look = self.watchdog.look(&reading);
        if let Kind::Group(group) = &self.kind {
            self.inside.look(group, &self.members, now_ns);
        }
        self.status.bytes_per_second = look.bytes_per_second;
        let limits = [look.time_to_limit_ns, self.inside.time_to_limit_ns()];
        self.status.time_to_limit_ns = limits.into_iter().flatten().min();
        let firing = look.firing.filter(|_| now_ns >= self.cool_until_ns);
        let of_all = firing.map(|it| Due { condition: it.condition, inside: None });
        Ok(of_all.or_else(|| {
            let (name, condition) = self.inside.due(now_ns)?;
            Some(Due { condition, inside: Some(name.to_owned()) })
        }))
    }

    /// Nothing fires before, of what this firing was about.
    pub(super) fn cool(&mut self, fired: &Fired, until_ns: u64) {
        if !self.inside.cool(&fired.watched, until_ns) {
            self.cool_until_ns = until_ns;
        }
    }

    /// Who is to be traced when this fires.
    pub(super) fn aim(&self, due: &Due) -> Option<&Member> {
        match due.inside.as_ref().and_then(|name| self.inside.get(name)) {
            Some(inner) => self.members.aim_in(&inner.group),
            None => self.members.aim(),
        }
    }

    /// Whether what fires is about this process, too.
    pub(super) fn concerns(&self, due: &Due, pid: u32) -> bool {
        let inner = due.inside.as_ref().and_then(|name| self.inside.get(name));
        inner.is_none_or(|inner| self.group_of(pid).is_some_and(|it| it.is_within(&inner.group)))
    }

    /// Who would be traced if something fired now: of the group that is the fullest.
    pub(super) fn likeliest(&self) -> Option<&Member> {
        let share = |limit: u64| self.status.rss.now_bytes as f64 / limit as f64;
        let of_all = self.status.limit_bytes.map_or(0.0, share);
        let fullest = self.inside.fullest().filter(|(_, share)| *share > of_all);
        fullest
            .and_then(|(inner, _)| self.members.aim_in(&inner.group))
            .or_else(|| self.members.aim())
    }

    /// Who is in it.
    fn meet(&mut self, proc: &ProcFs, now_ns: u64) -> Result<(), Gone> {
        let left = match &self.kind {
            Kind::Process(pid) => {
                let group = |_| self.group.clone();
                self.members.refresh(proc, &[*pid], now_ns, group)
            }
            Kind::Group(group) => {
                let processes = match group.processes() {
                    Err(GroupError::Gone { .. }) => return Err(Gone),
                    other => other.unwrap_or_else(|error| {
                        log::debug!("{error}");
                        BTreeMap::new()
                    }),
                };
                let pids: Vec<u32> = processes.keys().copied().collect();
                let inside = |pid| group.counted_at(processes.get(&pid)?);
                let group_of = |pid| inside(pid).or_else(|| charged(proc, pid));
                self.members.refresh(proc, &pids, now_ns, group_of)
            }
        };
        self.left.extend(left.into_iter().map(|member| (now_ns, member)));
        let is_over = matches!(self.kind, Kind::Process(_)) && self.members.len() == 0;
        if is_over { Err(Gone) } else { Ok(()) }
    }

    fn reading(&mut self, proc: &ProcFs, wants: Wants, now_ns: u64) -> Result<Reading, Gone> {
        let base = Reading {
            time_ns: now_ns,
            rss_bytes: self.members.rss_bytes(),
            room_bytes: self.room(proc, now_ns),
            trapped_bytes: self.trapped_bytes,
            ..Reading::default()
        };
        let reading = match &self.kind {
            Kind::Process(pid) => of_process(proc, *pid, wants, base, &mut self.before),
            Kind::Group(group) => match group.usage() {
                Ok(Some(usage)) => {
                    self.last = Some(usage);
                    self.status.peak_bytes = usage.peak_bytes;
                    of_group(&usage, base, &mut self.before)
                }
                Ok(None) => base,
                Err(GroupError::Gone { .. }) => return Err(Gone),
                Err(_) => base,
            },
        };
        match wants.pressure {
            true => Ok(with_pressure(reading, &self.pressure, &mut self.before)),
            false => Ok(reading),
        }
    }

    /// The lowest limit, or the machine's memory.
    fn room(&mut self, proc: &ProcFs, now_ns: u64) -> Option<u64> {
        if let Some((asked_ns, room)) = self.room
            && now_ns.saturating_sub(asked_ns) < ROOM_NS
        {
            return room;
        }
        let limit = match &self.kind {
            Kind::Process(pid) => cgroup::memory(proc, Path::new(cgroup::ROOT), *pid).ok(),
            Kind::Group(_) => None,
        };
        let room = limit.and_then(|it| it.limit_bytes).or_else(|| proc.memory_bytes());
        self.room = Some((now_ns, room));
        room
    }

    /// How many were killed since the last time somebody asked.
    pub(super) fn new_kills(&mut self) -> u64 {
        let Some(counted) = self.usage().and_then(|usage| usage.oom_kills) else { return 0 };
        let before = self.kills_counted.replace(counted).unwrap_or(counted);
        counted.saturating_sub(before)
    }

    /// Of a process, the kernel's own mark: one that has risen was reached since the last time.
    pub(super) fn read_peak(&mut self, proc: &ProcFs) {
        let Some(pid) = self.status.pid else { return };
        let Ok(resident) = proc.resident(pid) else { return };
        if self.status.peak_bytes.is_some_and(|before| resident.peak_bytes > before) {
            self.status.rss.raise(resident.peak_bytes);
        }
        self.status.peak_bytes = Some(resident.peak_bytes);
    }

    /// The group that a process's memory is charged to, which may be one in the group that is watched.
    pub(super) fn group_of(&self, pid: u32) -> Option<&Group> {
        let left = self.left.iter().map(|(_, member)| member);
        let member = self.members.get(pid).or_else(|| left.rev().find(|it| it.process.pid == pid));
        member.and_then(|it| it.group.as_ref()).or(self.group.as_ref())
    }

    /// Adds what the group tells.
    pub(super) fn complete(&self, kill: OomKill) -> OomKill {
        let told = |group: &Group| Some((group.name().to_owned(), group.usage().ok()??));
        let of_watched = || Some((self.group.as_ref()?.name().to_owned(), self.last?));
        let found = self.group_of(kill.pid).and_then(told).or_else(of_watched);
        let (cgroup, usage) = found.unwrap_or_default();
        OomKill { cgroup, limit_bytes: usage.limit_bytes, peak_bytes: usage.peak_bytes, ..kill }
    }

    /// A condition that fired, with what it was measured on.
    pub(super) fn fired(&self, due: &Due, at: String) -> Fired {
        let condition = due.condition.to_string();
        if let Some(inner) = due.inside.as_ref().and_then(|name| self.inside.get(name)) {
            return Fired {
                condition,
                at,
                watched: inner.group.name().to_owned(),
                rss_bytes: inner.usage.working_set_bytes,
                limit_bytes: inner.usage.limit_bytes,
                bytes_per_second: inner.look.bytes_per_second,
                time_to_limit_ns: inner.look.time_to_limit_ns,
                armed_after_ns: None,
            };
        }
        let TargetStatus { rss, limit_bytes, bytes_per_second, time_to_limit_ns, .. } = self.status;
        Fired {
            condition,
            at,
            watched: self.title(),
            rss_bytes: rss.now_bytes,
            limit_bytes,
            bytes_per_second,
            time_to_limit_ns,
            armed_after_ns: None,
        }
    }

    /// Whose heap is to be walked now.
    pub(super) fn wants_walk(&mut self, wants: Wants, now_ns: u64) -> Option<u32> {
        let is_soon = |begun_ns: u64| now_ns.saturating_sub(begun_ns) < WALK_NS;
        if self.is_walking || self.walk_begun_ns.is_some_and(is_soon) {
            return None;
        }
        let member = self.members.aim()?;
        let room = self.status.limit_bytes.unwrap_or(u64::MAX);
        let has_grown = member.rss_bytes >= self.walked_bytes.saturating_add(room / WALK_SHARE);
        if !(wants.trapped || has_grown) {
            return None;
        }
        let pid = member.process.pid;
        self.walked_bytes = member.rss_bytes;
        (self.walk_begun_ns, self.is_walking) = (Some(now_ns), true);
        Some(pid)
    }

    /// Takes the end of a walk.
    pub(super) fn walked(&mut self, pid: u32, inspection: Option<Inspection>) {
        self.is_walking = false;
        let Some(inspection) = inspection else { return };
        let set = |gauge: &mut Option<Gauge>, bytes| gauge.get_or_insert_default().set(bytes);
        set(&mut self.status.in_use, inspection.summary.in_use_bytes);
        set(&mut self.status.trapped, inspection.summary.trapped_bytes);
        if let Some(bytes) = inspection.summary.trim_bytes {
            set(&mut self.status.returnable, bytes);
        }
        self.trapped_bytes = Some(inspection.summary.trapped_bytes);
        self.census = Some((pid, inspection.census));
    }

    /// The last look at this process's heap.
    pub(super) fn take_census(&mut self, pid: u32) -> Option<Census> {
        self.walked_bytes = 0;
        self.census.take().filter(|(of, _)| *of == pid).map(|(_, census)| census)
    }

    /// Takes the process out of those that are there, or were until the last look.
    pub(super) fn take_member(&mut self, pid: u32) -> Option<Member> {
        let left = self.left.iter().position(|(_, it)| it.process.pid == pid);
        left.map(|at| self.left.swap_remove(at).1).or_else(|| self.members.remove(pid))
    }

    /// Whether a process is one of those that are there, or were of late.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.members.get(pid).is_some()
            || self.left.iter().any(|(_, it)| it.process.pid == pid)
            || self.running.as_ref().is_some_and(|it| it.pid == pid)
    }

    /// Those that left long ago are not asked for any more, unless their capture may still fail.
    pub(super) fn forget_left(&mut self, now_ns: u64) {
        let captured = self.running.as_ref().map(|it| it.pid);
        self.left.retain(|(left_ns, member)| {
            let is_late = now_ns.saturating_sub(*left_ns) < LONGEST_GAP_NS;
            is_late || Some(member.process.pid) == captured
        });
        let surplus = self.left.len().saturating_sub(MOST_LEFT);
        self.left.drain(..surplus);
    }
}

/// The group that the memory of a process is charged to.
fn charged(proc: &ProcFs, pid: u32) -> Option<Group> {
    let path = cgroup::path(proc, pid).ok()?;
    Group::open(Path::new(cgroup::ROOT), &path).ok().filter(Group::has_memory)
}
