#include "sentry/boot/fake_kernel.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "sentry/boot/requests.h"

namespace caisson::boot {
namespace {

using protocol::Reply;

constexpr int kUsr1Status = 7;

int Exited(int code) { return (code & 0xff) << 8; }

Reply Ok() { return Reply(); }
Reply NotFound() { return ErrorReply(Reply::NOT_FOUND, "no such process"); }

std::vector<std::string> Args(const protocol::Process& process) {
  return {process.args().begin(), process.args().end()};
}

int Number(const std::vector<std::string>& args) {
  return args.size() > 1 ? atoi(args[1].c_str()) : 0;
}

}  // namespace

Reply FakeKernel::CreateContainer(protocol::Container container,
                                  std::vector<UniqueFd> gofer_sockets, ProcessFds fds) {
  Program program;
  program.args = Args(container.init());
  program.fds = std::move(fds);
  program.gofers = std::move(gofer_sockets);
  if (program.args.empty()) return ErrorReply(Reply::INVALID, "no args");
  if (program.args[0] == "notfound") {
    return ErrorReply(Reply::EXECUTABLE_NOT_FOUND, "notfound: executable file not found in $PATH");
  }
  if (program.args[0] == "hang") {
    while (true) sleep(1000);
  }
  MutexLock lock(mu_);
  const bool created = programs_.try_emplace({container.id(), 0}, std::move(program)).second;
  return created ? Ok() : ErrorReply(Reply::INVALID, "container exists");
}

Reply FakeKernel::StartContainer(const std::string& id) {
  MutexLock lock(mu_);
  Program* program = FindLocked(id, 0);
  if (program == nullptr) return NotFound();
  if (program->started) return ErrorReply(Reply::ALREADY_STARTED, "already started");
  program->started = true;
  if (!program->ended) RunLocked(*program);
  return Ok();
}

Reply FakeKernel::Exec(const std::string& id, protocol::Process process, ProcessFds fds) {
  MutexLock lock(mu_);
  Program* init = FindLocked(id, 0);
  if (init == nullptr) return NotFound();
  if (init->ended) return ErrorReply(Reply::NOT_RUNNING, "container not running");
  const int32_t pid = ++last_pid_;
  Program& program = programs_[{id, pid}];
  program.args = Args(process);
  program.fds = std::move(fds);
  program.started = true;
  if (program.args.empty() || program.args[0] == "notfound") {
    programs_.erase({id, pid});
    return ErrorReply(Reply::EXECUTABLE_NOT_FOUND, "notfound: executable file not found in $PATH");
  }
  RunLocked(program);
  Reply reply;
  reply.set_pid(pid);
  return reply;
}

void FakeKernel::RunLocked(Program& program) {
  const std::string& name = program.args[0];
  if (name == "exit") {
    EndLocked(program, Exited(Number(program.args)));
  } else if (name == "signal") {
    EndLocked(program, Number(program.args));
  } else if (name == "run" && runner_) {
    // A Program stays where it is until the kernel goes, which is with the process.
    std::thread([this, &program, args = program.args] {
      const int status = runner_(args, program.gofers);
      MutexLock lock(mu_);
      EndLocked(program, Exited(status));
    }).detach();
  } else if (name == "abort") {
    abort();
  } else if (name == "call") {
    const long r = syscall(Number(program.args), -1, 0, 0, 0, 0, 0);
    EndLocked(program, Exited(r < 0 ? errno : 0));
  } else if (name == "echo") {
    const UniqueFd& out = program.fds.stdio.size() == 1 ? program.fds.stdio[0] : program.fds.stdio[1];
    const std::string& text = program.args[1];
    const bool written = write(out.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    EndLocked(program, Exited(written ? 0 : 1));
  } else if (name == "leave-gofer") {
    program.gofers.clear();
  } else if (name == "gofer") {
    char byte = 'g';
    iovec data{&byte, 1};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    const bool sent = !program.gofers.empty() && sendmsg(program.gofers[0].get(), &header, 0) == 1;
    const bool got = sent && recvmsg(program.gofers[0].get(), &header, 0) == 1;
    EndLocked(program, Exited(got ? byte : 0));
  }
}

void FakeKernel::EndLocked(Program& program, int wait_status) {
  if (program.ended) return;
  program.ended = true;
  program.wait_status = wait_status;
  program.fds = {};
  Reply reply;
  reply.set_wait_status(wait_status);
  auto waiters = std::exchange(program.waiters, {});
  for (auto waiter = waiters.rbegin(); waiter != waiters.rend(); ++waiter) (*waiter)(reply);
}

FakeKernel::Program* FakeKernel::FindLocked(const std::string& id, int32_t pid) {
  auto it = programs_.find({id, pid});
  return it == programs_.end() ? nullptr : &it->second;
}

void FakeKernel::Wait(const std::string& id, int32_t pid, std::function<void(Reply)> done) {
  MutexLock lock(mu_);
  Program* program = FindLocked(id, pid);
  if (program == nullptr) {
    done(NotFound());
  } else if (program->ended) {
    Reply reply;
    reply.set_wait_status(program->wait_status);
    done(reply);
  } else {
    program->waiters.push_back(std::move(done));
  }
}

Reply FakeKernel::Signal(const protocol::SignalRequest& request) {
  MutexLock lock(mu_);
  Program* program = FindLocked(request.container_id(), request.pid());
  if (program == nullptr) return NotFound();
  if (program->ended) return ErrorReply(Reply::NOT_RUNNING, "container not running");
  const int signal = request.signal();
  if (signal == SIGUSR1) {
    EndLocked(*program, Exited(kUsr1Status));
  } else if (signal != 0 && signal != SIGCONT && signal != SIGWINCH) {
    EndLocked(*program, signal);
  }
  return Ok();
}

Reply FakeKernel::SetWindowSize(const protocol::WindowSize& request) {
  MutexLock lock(mu_);
  Program* program = FindLocked(request.container_id(), request.pid());
  if (program == nullptr) return NotFound();
  if (program->started && program->args[0] == "winsize") {
    EndLocked(*program, Exited(static_cast<int>(request.columns())));
  }
  return Ok();
}

Reply FakeKernel::Ps(const std::string& id) {
  MutexLock lock(mu_);
  Reply reply;
  for (const auto& [key, program] : programs_) {
    if (key.first == id && !program.ended) reply.add_processes()->set_pid(key.second);
  }
  return reply;
}

Reply FakeKernel::Pause(const protocol::PauseRequest&) { return Ok(); }
Reply FakeKernel::Resume(const std::string&) { return Ok(); }
Reply FakeKernel::Events(const std::string&) { return Ok(); }
Reply FakeKernel::Update(const protocol::UpdateRequest&) { return Ok(); }

// A text that is longer than a message.
Reply FakeKernel::Debug(const protocol::DebugRequest& request) {
  Reply reply;
  reply.set_text(std::string(request.stacks() ? 200'000 : 10, 't'));
  return reply;
}

Reply FakeKernel::State(const std::string& id) {
  MutexLock lock(mu_);
  Program* program = FindLocked(id, 0);
  if (program == nullptr) return NotFound();
  Reply reply;
  reply.set_status(program->ended     ? Reply::STOPPED
                   : program->started ? Reply::RUNNING
                                      : Reply::CREATED);
  return reply;
}

Reply FakeKernel::Destroy(const std::string& id) {
  MutexLock lock(mu_);
  for (auto& [key, program] : programs_) {
    if (key.first == id) EndLocked(program, SIGKILL);
  }
  return Ok();
}

SentryParts FakeParts() {
  SentryParts parts;
  parts.make_kernel = [](const protocol::SandboxConfig&) { return std::make_unique<FakeKernel>(); };
  return parts;
}

}  // namespace caisson::boot
