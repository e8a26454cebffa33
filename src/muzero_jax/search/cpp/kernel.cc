// A simulation of a batch of trees as a call of XLA's foreign function interface.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gumbel.h"
#include "puct.h"
#include "simulate.h"
#include "xla/ffi/api/ffi.h"

namespace muzero {
namespace {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Ints = ffi::Buffer<ffi::S32>;

// Simulates the rows from `begin` until `end`, in working memory that each thread keeps.
template <class Rule>
void simulate(const Batch& batch, const Rule& rule, int begin, int end) {
  const size_t size = (Simulation<Rule>::num_scratch(batch.at) + 1) * sizeof(Lanes);
  static thread_local std::vector<char> scratch;
  if (scratch.size() < size) scratch.resize(size);
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  const uintptr_t aligned = (address + sizeof(Lanes) - 1) / sizeof(Lanes) * sizeof(Lanes);
  Simulation<Rule>(batch, rule, reinterpret_cast<Lanes*>(aligned)).simulate(begin, end);
}

// Rows that several threads take in pieces. A thread that comes late finds no piece left, so that
// the others need not wait for it to start.
template <class Rule>
struct Pieces {
  const Batch batch;
  const Rule rule;
  std::atomic<int> next{0}, done{0};

  Pieces(const Batch& batch, const Rule& rule) : batch(batch), rule(rule) {}
  int count() const { return (batch.num_rows + LANES - 1) / LANES; }
  void take() {
    for (int i; (i = next.fetch_add(1)) < count();) {
      int begin = i * LANES, end = begin + LANES;
      simulate(batch, rule, begin, end < batch.num_rows ? end : batch.num_rows);
      done.fetch_add(1, std::memory_order_release);
    }
  }
};

// Waking another thread pays if the nodes on all paths have more words than this.
constexpr int64_t WORTH_SPREADING = 15000;

template <class Rule>
void spread(const Batch& batch, const Rule& rule, ffi::ThreadPool& pool) {
  int64_t work = 0;
  for (int row = 0; row < batch.num_rows; row++) work += batch.leaves[row].depth;
  int num_threads = static_cast<int>(pool.num_threads());
  if (work * batch.at.words < WORTH_SPREADING || num_threads < 2 || batch.num_rows <= LANES)
    return simulate(batch, rule, 0, batch.num_rows);
  auto pieces = std::make_shared<Pieces<Rule>>(batch, rule);
  for (int i = 1; i < num_threads && i < pieces->count(); i++)
    pool.Schedule([pieces] { pieces->take(); });
  pieces->take();
  while (pieces->done.load(std::memory_order_acquire) < pieces->count()) std::this_thread::yield();
}

// The operands that all rules have, in this order.
struct Operands {
  Ints records, leaves;
  Floats logits, value, reward, discount;
  Ints invalid;
};

Batch make_batch(const Operands& given, Ints& next_records, Ints& next_leaves, const float* gumbel,
                 int32_t max_depth) {
  // XLA may store the results in the place of the arguments, but need not.
  if (next_records.typed_data() != given.records.typed_data())
    std::memcpy(next_records.typed_data(), given.records.typed_data(), given.records.size_bytes());
  if (next_leaves.typed_data() != given.leaves.typed_data())
    std::memcpy(next_leaves.typed_data(), given.leaves.typed_data(), given.leaves.size_bytes());
  const int num_rows = static_cast<int>(given.logits.dimensions()[0]);
  return {next_records.typed_data(),
          reinterpret_cast<Leaf*>(next_leaves.typed_data()),
          given.logits.typed_data(),
          given.value.typed_data(),
          given.reward.typed_data(),
          given.discount.typed_data(),
          gumbel,
          given.invalid.typed_data(),
          max_depth,
          num_rows,
          static_cast<int>(given.records.dimensions()[0]) / num_rows,
          Layout(static_cast<int>(given.logits.dimensions()[1]))};
}

ffi::Error search_gumbel(ffi::ThreadPool pool, Ints records, Ints leaves, Floats logits,
                         Floats value, Floats reward, Floats discount, Ints invalid, Floats gumbel,
                         Ints considered, ffi::Result<Ints> next_records,
                         ffi::Result<Ints> next_leaves, int32_t max_depth, float value_scale,
                         float maxvisit_init, float min_range) {
  Operands operands{records, leaves, logits, value, reward, discount, invalid};
  Batch batch = make_batch(operands, *next_records, *next_leaves, gumbel.typed_data(), max_depth);
  Gumbel rule{value_scale,
              maxvisit_init,
              min_range,
              considered.typed_data(),
              static_cast<int>(considered.dimensions()[0]) - 1,
              static_cast<int>(considered.dimensions()[1])};
  spread(batch, rule, pool);
  return ffi::Error::Success();
}

ffi::Error search_puct(ffi::ThreadPool pool, Ints records, Ints leaves, Floats logits, Floats value,
                       Floats reward, Floats discount, Ints invalid, Floats weights,
                       ffi::Result<Ints> next_records, ffi::Result<Ints> next_leaves,
                       int32_t max_depth) {
  Operands operands{records, leaves, logits, value, reward, discount, invalid};
  Batch batch = make_batch(operands, *next_records, *next_leaves, nullptr, max_depth);
  spread(batch, Puct{weights.typed_data(), static_cast<int>(weights.dimensions()[1])}, pool);
  return ffi::Error::Success();
}

auto bind_operands() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Ints>()    // records
      .Arg<Ints>()    // leaves
      .Arg<Floats>()  // logits
      .Arg<Floats>()  // value
      .Arg<Floats>()  // reward
      .Arg<Floats>()  // discount
      .Arg<Ints>();   // invalid
}

}  // namespace
}  // namespace muzero

XLA_FFI_DEFINE_HANDLER_SYMBOL(muzero_search_gumbel, muzero::search_gumbel,
                              muzero::bind_operands()
                                  .Arg<muzero::Floats>()  // gumbel
                                  .Arg<muzero::Ints>()    // considered
                                  .Ret<muzero::Ints>()
                                  .Ret<muzero::Ints>()
                                  .Attr<int32_t>("max_depth")
                                  .Attr<float>("value_scale")
                                  .Attr<float>("maxvisit_init")
                                  .Attr<float>("min_range"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(muzero_search_puct, muzero::search_puct,
                              muzero::bind_operands()
                                  .Arg<muzero::Floats>()  // weights
                                  .Ret<muzero::Ints>()
                                  .Ret<muzero::Ints>()
                                  .Attr<int32_t>("max_depth"));
